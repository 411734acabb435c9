# shellcheck shell=bash
# What the tools print: plain lines for what they do, and one form for what went wrong.

# say TEXT: one line about what happens now. On standard error, so that a tool's output stays usable in a pipe.
say() { printf '%s: %s\n' "${TOOL:-${0##*/}}" "$*" >&2; }

# die TEXT: the error and, by convention, the way out of it; ends the tool with 1.
die() {
    say "$*"
    exit 1
}

# need_root: for tools that make namespaces, cgroups or load BPF programs.
need_root() { [ "$(id -u)" -eq 0 ] || die "needs root: run it as 'sudo ${TOOL_PATH:-$0}'"; }
