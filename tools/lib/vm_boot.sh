# shellcheck shell=bash
# One run in the virtual machine: a copy-on-write boot of the image, the script and its files shared over 9p, its output
# through a virtio port, its exit code in a file.

VM_OVER_LIMIT=124 VM_BROKEN=125

vm_run() {
    local boots=1 limit=600 keep='' arguments=''
    while [ $# -gt 0 ]; do
        case "$1" in
        --boots) boots=$2 && shift 2 ;;
        --limit) limit=$2 && shift 2 ;;
        --keep) keep=$2 && shift 2 ;;
        --arguments) arguments=$2 && shift 2 ;;
        -*) die "unknown option $1 (tools/vm --help)" ;;
        *) break ;;
        esac
    done
    [ $# -ge 1 ] || die "run needs a script (tools/vm --help)"
    [ -f "$1" ] || die "no script $1"
    [ "$limit" -le 600 ] || die "--limit is at most 600 seconds"
    need_root
    packages_install vm
    vm_image
    VM_WORK=$(mktemp -d)
    trap 'vm_leave' EXIT
    trap 'exit 130' INT TERM
    mkdir "$VM_WORK/in" "$VM_WORK/out"
    cp "$1" "$VM_WORK/in/script"
    shift
    [ $# -eq 0 ] || cp -rL "$@" "$VM_WORK/in/"
    printf '%s\n' "$arguments" >"$VM_WORK/in/arguments"
    vm_product
    local status=0
    vm_boot "$boots" "$limit" || status=$?
    if [ -n "$keep" ]; then mkdir -p "$keep" && cp -a "$VM_WORK/out/." "$keep/"; fi
    if [ "$status" -eq "$VM_OVER_LIMIT" ] || [ "$status" -eq 137 ]; then
        say "over the limit of $limit s; the console ends:"
        tail -n 20 "$VM_WORK/out/console" >&2
        exit "$VM_OVER_LIMIT"
    fi
    [ -s "$VM_WORK/out/exit-code" ] || {
        say "the machine ended without a result (qemu: $status); the console ends:"
        tail -n 20 "$VM_WORK/out/console" >&2
        exit "$VM_BROKEN"
    }
    exit "$(cat "$VM_WORK/out/exit-code")"
}

# The built product goes to /in/culvert, with what installs it.
vm_product() {
    local file
    mkdir -p "$VM_WORK/in/culvert/tools"
    for file in meshd meshctl; do
        [ ! -x "$ROOT/.build/release/$file" ] || cp -L "$ROOT/.build/release/$file" "$VM_WORK/in/culvert/"
    done
    [ ! -e "$ROOT/tools/install" ] || cp -r "$ROOT/tools/install" "$ROOT/tools/lib" "$VM_WORK/in/culvert/tools/"
    [ ! -d "$ROOT/tools/deploy" ] || cp -r "$ROOT/tools/deploy" "$VM_WORK/in/culvert/tools/"
}

vm_boot() {
    local boots=$1 limit=$2 cpus arguments
    cpus=$(nproc)
    [ "$cpus" -le 4 ] || cpus=4
    arguments="console=ttyS0 quiet loglevel=3 panic=-1 oops=panic root=/dev/vda rw mitigations=off tsc=reliable"
    arguments+=" no_timer_check audit=0 systemd.unified_cgroup_hierarchy=1 guest.boots=$boots"
    # A serial port on standard output without standard input would block the guest: each stream has its own device.
    timeout -k 5 "$limit" qemu-system-x86_64 -M pc,hpet=off -accel tcg,thread=multi,tb-size=512 -cpu max -smp "$cpus" \
        -m 2048 -nodefaults -display none -no-user-config -kernel "$VM_CACHE/vmlinux" -initrd "$VM_CACHE/initrd" \
        -append "$arguments" \
        -drive "file=$VM_CACHE/root.ext4,format=raw,if=none,id=root,snapshot=on,cache=unsafe" \
        -device virtio-blk-pci,drive=root \
        -fsdev "local,id=in,path=$VM_WORK/in,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=in,mount_tag=in \
        -fsdev "local,id=out,path=$VM_WORK/out,security_model=none" -device virtio-9p-pci,fsdev=out,mount_tag=out \
        -device virtio-serial-pci -chardev file,id=text,path=/dev/fd/3 -device virtserialport,chardev=text,name=text \
        -chardev "file,id=console,path=$VM_WORK/out/console" -serial chardev:console \
        -device isa-debug-exit,iobase=0x501,iosize=4 -device virtio-rng-pci </dev/null 3> >(exec cat) &
    VM_PID=$!
    wait "$VM_PID"
}

vm_leave() {
    [ -z "${VM_PID:-}" ] || kill "$VM_PID" 2>/dev/null || true
    rm -rf "$VM_WORK"
}
