# shellcheck shell=bash
# The kernel side's object: each bpf/*.bpf.c compiled for the BPF target, all linked into one by bpftool. The file is
# replaced only when its content changes, so that swift build has nothing to do otherwise.

BPF_OBJECT=Sources/CBPFObjects/generated/mesh.bpf.o
BPF_FLAGS=(-O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare)

bpf_object_build() {
    mkdir -p "$(dirname "$BPF_OBJECT")"
    bpf_object_compile "$BPF_OBJECT"
}

# bpf_object_compile FILE [clang's ARGUMENT...]
bpf_object_compile() (
    target=$1
    shift
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for source in bpf/*.bpf.c; do
        clang "${BPF_FLAGS[@]}" "$@" "-I/usr/include/$(gcc -print-multiarch 2>/dev/null || uname -m)-linux-gnu" \
            "-I/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$work/$(basename "$source" .bpf.c).o" ||
            die "$source does not compile"
    done
    "$(bpftool_path)" gen object "$work/mesh.bpf.o" "$work"/*.o || die "the BPF programs do not link"
    cmp -s "$work/mesh.bpf.o" "$target" || mv "$work/mesh.bpf.o" "$target"
)

# Debian puts it where a user's path may not look.
bpftool_path() { command -v bpftool || echo /usr/sbin/bpftool; }

# next_layout_build CONFIGURATION FILE: the meshd that was built last, linked once more with kernel programs of the next
# layout and version of the shared structures, one table in another shape: what a test upgrades to, and back from.
next_layout_build() (
    triple_arguments=$(awk '/^  "C\.meshd-.*\.exe":/ { found = 1 } found && /^    args: / { sub(/^    args: /, ""); print; exit }' \
        ".build/$1.yaml")
    [ -n "$triple_arguments" ] || die "no meshd was built in configuration $1"
    layout=$(sed -n 's/^#define MESH_LAYOUT \([0-9]*\).*/\1/p' bpf/abi/mesh_abi.h)
    version=$(sed -n 's/^#define MESH_ABI_VERSION \([0-9]*\).*/\1/p' bpf/abi/mesh_abi.h)
    defines=("-DMESH_LAYOUT=$((layout + 1))" "-DMESH_ABI_VERSION=$((version + 1))" -DMESH_NODES_MAX=32768)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/generated"
    cp Sources/CBPFObjects/objects.c "$work/"
    bpf_object_compile "$work/generated/mesh.bpf.o" "${defines[@]}"
    clang -std=gnu23 -O2 "${defines[@]}" -ISources/CBPFObjects/include -Ibpf/abi -c "$work/objects.c" -o "$work/objects.o" ||
        die "objects.c does not compile"
    arguments=()
    while IFS= read -r argument; do
        case $argument in
        @*)
            grep -v '/CBPFObjects.build/objects.c.o' "${argument#@}" >"$work/list"
            echo "$work/objects.o" >>"$work/list"
            argument="@$work/list"
            ;;
        */meshd) argument=$2 ;;
        esac
        arguments+=("$argument")
    done < <(jq -r '.[]' <<<"$triple_arguments")
    "${arguments[@]}" || die "the next layout's meshd does not link"
)
