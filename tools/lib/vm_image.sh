# shellcheck shell=bash
# The virtual machine's image: Debian 12 from debootstrap, its kernel unpacked from the package, a small initrd, and one
# ext4 file system. Each step is kept in the cache and made again only when what it is made from has changed.

VM_CACHE=${CULVERT_VM_CACHE:-/var/cache/culvert-vm}
VM_GUEST=$ROOT/tools/lib/vm
VM_PACKAGES=systemd-sysv,dbus,iproute2,procps,kmod,util-linux,nginx-light,curl,openssl,libssl3,libbpf1,libnghttp2-14
VM_PACKAGES+=,libyaml-0-2,libseccomp2,libelf1,zlib1g,libstdc++6,ca-certificates,python3-minimal,bpftool
# What a guest may need of the 390 MB of modules.
VM_MODULES=(net/core net/ipv4 net/ipv6 net/sched net/netfilter net/unix net/9p net/802 crypto lib arch/x86/crypto fs/ext4
    fs/jbd2 fs/mbcache.ko fs/9p fs/fscache fs/netfs fs/autofs drivers/virtio drivers/block drivers/char/virtio_console.ko
    drivers/char/hw_random drivers/net/veth.ko drivers/net/dummy.ko drivers/watchdog)

vm_image() {
    mkdir -p "$VM_CACHE"
    exec 8>"$VM_CACHE/lock"
    flock 8
    vm_step base.tar "$VM_PACKAGES" vm_base
    vm_step vmlinux "linux-image-amd64" vm_kernel
    vm_step initrd "$(cat "$VM_GUEST/init")" vm_initrd
    vm_step root.ext4 "$(cat "$VM_GUEST"/*) ${VM_MODULES[*]} $(stat -c %Y "$VM_CACHE/base.tar" "$VM_CACHE/vmlinux")" vm_root
    flock -u 8
}

# vm_step FILE RECIPE FUNCTION: makes FILE unless it stands and was made from this recipe text.
vm_step() {
    local file=$VM_CACHE/$1 recipe began=$SECONDS
    recipe=$(sha256sum <<<"$2" | cut -d' ' -f1)
    [ -s "$file" ] && [ "$(cat "$file.recipe" 2>/dev/null)" = "$recipe" ] && return
    say "makes $1"
    rm -f "$file" "$file.recipe"
    (cd "$VM_CACHE" && "$3") || die "could not make $1 (see $VM_CACHE/*.log)"
    printf '%s\n' "$recipe" >"$file.recipe"
    say "made $1 in $((SECONDS - began)) s"
}

vm_base() {
    rm -rf tree
    debootstrap --variant=minbase --include="$VM_PACKAGES" bookworm tree >debootstrap.log 2>&1
    rm -rf tree/var/cache/apt/archives/*.deb tree/var/lib/apt/lists/* tree/usr/share/{doc,man,locale,info}/*
    tar -C tree --numeric-owner --one-file-system -cf base.tar.new .
    mv base.tar.new base.tar
    rm -rf tree
}

# The package holds a compressed kernel; qemu's software emulation boots the bare one several seconds sooner.
vm_kernel() {
    local package
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-6\.1\.[^ ]*\).*/\1/p' | head -n 1)
    [ -n "$package" ] || die "apt knows no 6.1 kernel (apt-get update?)"
    rm -rf kernel linux-image-*.deb
    mkdir kernel
    apt-get download -q "$package" >kernel.log 2>&1
    dpkg-deb --fsys-tarfile linux-image-*.deb | tar -C kernel -xf - --exclude=./usr/share
    rm -f linux-image-*.deb
    python3 - kernel/boot/vmlinuz-* <<'PYTHON'
import lzma
import sys

image = open(sys.argv[1], "rb").read()
start = image.find(b"\xfd7zXZ\0")
if start < 0:
    sys.exit("no xz stream in the kernel image")
open("vmlinux.new", "wb").write(lzma.LZMADecompressor().decompress(image[start:]))
PYTHON
    mv vmlinux.new vmlinux
}

vm_initrd() {
    local version
    version=$(ls kernel/lib/modules)
    rm -rf initrd.tree
    mkdir -p initrd.tree/{bin,mod,proc,sys,dev,new}
    cp /bin/busybox initrd.tree/bin/
    install -m 755 "$VM_GUEST/init" initrd.tree/init
    depmod -b kernel "$version" 2>/dev/null || true
    for module in virtio_pci virtio_blk ext4 crc32c_generic; do
        modprobe -d kernel -S "$version" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >initrd.tree/mods
    xargs -a initrd.tree/mods cp -t initrd.tree/mod
    sed -i 's|.*/||' initrd.tree/mods
    (cd initrd.tree && find . | cpio -o -H newc --quiet) >initrd.new
    mv initrd.new initrd
    rm -rf initrd.tree
}

vm_root() {
    rm -rf tree
    mkdir tree
    tar -C tree --numeric-owner -xpf base.tar
    vm_modules
    vm_guest_files
    rm -f root.new
    truncate -s 3G root.new
    mkfs.ext4 -q -F -m 0 -O ^metadata_csum -E lazy_itable_init=1,root_owner=0:0 -d tree root.new
    mv root.new root.ext4
    rm -rf tree
}

vm_modules() {
    local version source target part
    version=$(ls kernel/lib/modules)
    source=kernel/lib/modules/$version
    target=tree/lib/modules/$version
    mkdir -p "$target"
    for part in "${VM_MODULES[@]}"; do
        [ -e "$source/kernel/$part" ] || continue
        mkdir -p "$target/kernel/$(dirname "$part")"
        cp -r "$source/kernel/$part" "$target/kernel/$(dirname "$part")/"
    done
    cp "$source"/modules.{builtin,builtin.modinfo,order} "$target/"
    depmod -b tree "$version" 2>/dev/null || true
}

vm_guest_files() {
    local unit units=tree/etc/systemd/system
    install -m 755 "$VM_GUEST/guest-run" tree/usr/local/sbin/guest-run
    cp "$VM_GUEST"/guest-run.service "$VM_GUEST"/guest.target "$units/"
    mkdir -p tree/in tree/out tree/var/lib/guest-run tree/var/log/journal "$units/guest.target.wants" \
        tree/etc/systemd/system.conf.d tree/etc/systemd/journald.conf.d
    ln -sf ../guest-run.service "$units/guest.target.wants/"
    ln -sf guest.target "$units/default.target"
    for unit in getty.target console-getty.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \
        dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer nginx.service systemd-firstboot.service \
        systemd-timesyncd.service systemd-hwdb-update.service systemd-pstore.service; do
        ln -sf /dev/null "$units/$unit"
    done
    printf 'vm\n' >tree/etc/hostname
    printf '127.0.0.1 localhost vm\n::1 localhost\n' >tree/etc/hosts
    printf '0123456789abcdef0123456789abcdef\n' >tree/etc/machine-id
    : >tree/etc/fstab
    printf '[Manager]\nShowStatus=no\nDefaultTimeoutStopSec=20s\n' >tree/etc/systemd/system.conf.d/guest.conf
    printf '[Journal]\nStorage=persistent\nSyncIntervalSec=5s\n' >tree/etc/systemd/journald.conf.d/guest.conf
}
