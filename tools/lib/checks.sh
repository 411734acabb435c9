# shellcheck shell=bash
# A list of named checks: each is a function that prints what is wrong and returns non-zero; the list prints one line
# a check and keeps the count. tools/check, tools/demo --check and the virtual machine's script report this way.

CHECKS_PASSED=0
CHECKS_FAILED=0

# check_that NAME FUNCTION [ARGUMENT…]: runs the function, prints `ok NAME` or `FAILED NAME: first line of its output`.
check_that() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        CHECKS_PASSED=$((CHECKS_PASSED + 1))
        printf 'ok %s\n' "$name"
        return 0
    fi
    CHECKS_FAILED=$((CHECKS_FAILED + 1))
    [ -n "$output" ] || output="no further word"
    printf 'FAILED %s: %s\n' "$name" "$(head -n 1 <<<"$output")"
    [ "$(wc -l <<<"$output")" -le 1 ] || tail -n +2 <<<"$output" | head -n 40 | sed 's/^/    /'
    return 0
}

# checks_summary: the closing line; returns non-zero when a check failed.
checks_summary() {
    printf '%d passed, %d failed\n' "$CHECKS_PASSED" "$CHECKS_FAILED"
    [ "$CHECKS_FAILED" -eq 0 ]
}

# is_empty TEXT: for checks whose output is the list of offences.
is_empty() {
    [ -z "$1" ] || {
        printf '%s\n' "$1"
        return 1
    }
}
