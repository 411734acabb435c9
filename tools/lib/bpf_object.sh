# shellcheck shell=bash
# The kernel side's object: each bpf/*.bpf.c compiled for the BPF target, all linked into one by bpftool. The file is
# replaced only when its content changes, so that swift build has nothing to do otherwise.

BPF_OBJECT=Sources/CBPFObjects/generated/mesh.bpf.o
BPF_FLAGS=(-O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare)

bpf_object_build() (
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for source in bpf/*.bpf.c; do
        clang "${BPF_FLAGS[@]}" "-I/usr/include/$(gcc -print-multiarch 2>/dev/null || uname -m)-linux-gnu" \
            "-I/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$work/$(basename "$source" .bpf.c).o" ||
            die "$source does not compile"
    done
    "$(bpftool_path)" gen object "$work/mesh.bpf.o" "$work"/*.o || die "the BPF programs do not link"
    mkdir -p "$(dirname "$BPF_OBJECT")"
    cmp -s "$work/mesh.bpf.o" "$BPF_OBJECT" || mv "$work/mesh.bpf.o" "$BPF_OBJECT"
)

# Debian puts it where a user's path may not look.
bpftool_path() { command -v bpftool || echo /usr/sbin/bpftool; }
