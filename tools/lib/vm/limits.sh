# shellcheck shell=bash
# What the kernel is asked to bear and to enforce: programs on the oldest kernel, the memory of the proxy's unit.

# programs_load OBJECT: each one by the verifier of this kernel, without the product around them.
programs_load() {
    mkdir -p /run/bpf-check
    mountpoint -q /run/bpf-check || mount -t bpf bpf /run/bpf-check
    bpftool prog loadall "$1" /run/bpf-check/mesh && [ "$(find /run/bpf-check/mesh -type f | wc -l)" -ge 17 ]
    local code=$?
    umount /run/bpf-check
    return $code
}

proxy_memory() { printf '/sys/fs/cgroup%s/memory.max' "$(sed 's/^0:://' "/proc/$(proxy_pid)/cgroup")"; }
memory_is_limited() { [ "$(cat "$(proxy_memory)")" = $((512 << 20)) ]; }
new_proxy() { [ "$(proxy_pid)" != "$1" ] && [ "$(proxy_pid)" != 0 ]; }

# The limit is put below what the proxy needs: the kernel ends the proxy and nothing else, and systemd's next one, with
# the unit's own limit, carries again.
memory_limit_ends_only_the_proxy() {
    local proxy meshd since
    proxy=$(proxy_pid) meshd=$(meshd_pid) since=$(date +%s)
    echo $((2 << 20)) >"$(proxy_memory)" 2>/dev/null
    wait_until 60 new_proxy "$proxy" || {
        echo "the proxy lives on above its limit"
        return 1
    }
    journalctl -u 'culvert-proxy@*' --since "@$since" -o cat --no-pager | grep -qi 'oom' || {
        echo "it did not end for its memory"
        return 1
    }
    [ "$(meshd_pid)" = "$meshd" ] || {
        echo "meshd ended too"
        return 1
    }
    memory_is_limited && wait_until 60 greeted
}

limit_checks() {
    check_that "the proxy's memory is limited by its unit" memory_is_limited
    check_that "above the limit the proxy alone ends, and the next one carries" memory_limit_ends_only_the_proxy
}
