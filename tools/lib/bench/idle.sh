# shellcheck shell=bash
# What the mesh weighs: resident memory without a connection, and per idle connection at a given number of them.

# Culvert holds its idle connections before anything else has grown its memory. Envoy does so last: it is to be fresh in
# all other rows.
bench_idle_first() {
    local envoy=-
    lab_mesh_settled
    [ "$BENCH_ENVOY" = no ] || envoy=$(bench_envoy_kib | bench_mib)
    bench_row rss_idle MiB - "$(bench_resident_kib proxy | bench_mib)" "$envoy"
    bench_row rss_idle_all MiB - "$(bench_resident_kib | bench_mib)" "$envoy"
    bench_idle_by_process
    printf 'memory: node a BPF maps: %d KiB in the kernel\n' "$(bench_maps_kib)"
    bench_limits_begin
    lab_start idle-server b w2 python3 "$ROOT/tools/lib/bench/idle_connections.py" serve "$BENCH_IDLE_PORT"
    bench_idle_path culvert bench_resident_kib "$1"
    BENCH_IDLE_CULVERT=$per_connection
    bench_idle_by_process
}

bench_idle_last() {
    per_connection=-
    [ "$BENCH_ENVOY" = no ] || bench_idle_path envoy bench_envoy_kib "$1"
    bench_row idle_kib KiB - "$BENCH_IDLE_CULVERT" "$per_connection"
    process_end idle-server
}

# bench_idle_path PATH RESIDENT COUNT: sets per_connection, KiB that the command RESIDENT shows for each of COUNT idle ones.
bench_idle_path() {
    local path=$1 before after kernel_before kernel_after held workload=none
    [ "$path" != culvert ] || workload=w1
    before=$("$2")
    kernel_before=$(bench_kernel_kib)
    rm -f "$LAB_STATE/idle-held"
    lab_start "idle-$path" a "$workload" python3 "$ROOT/tools/lib/bench/idle_connections.py" hold \
        "$(bench_host "$path" 21)" "$(bench_port "$path" "$BENCH_IDLE_PORT")" "$3" "$LAB_STATE/idle-held"
    wait_for 240 test -s "$LAB_STATE/idle-held" ||
        die "the idle connections were not reached: $(tail -n 1 "$LAB_STATE/log/idle-$path.log")"
    held=$(cat "$LAB_STATE/idle-held")
    sleep 10 # buffers of the set-up are given back
    after=$("$2")
    kernel_after=$(bench_kernel_kib)
    per_connection=$(awk -v a="$after" -v b="$before" -v n="$held" 'BEGIN { printf "%.2f", (a - b) / n }')
    printf 'idle, %s: %d connections held; both nodes together %d KiB before, %d KiB after; in the kernel %+.2f KiB each\n' \
        "$path" "$held" "$before" "$after" \
        "$(awk -v a="$kernel_after" -v b="$kernel_before" -v n="$held" 'BEGIN { print (a - b) / n }')"
    [ "$path" != culvert ] || bench_limits_with "$held"
    process_end "idle-$path"
    sleep 2
}

bench_envoy_kib() {
    local node pid kib total=0
    for node in $LAB_NODES; do
        while read -r pid; do
            kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
            total=$((total + kib))
        done <"$(lab_cgroup_root)/envoy-$node/cgroup.procs"
    done
    echo "$total"
}

# The mesh of both nodes has answered once and is at rest.
lab_mesh_settled() {
    lab_in a w1 curl -sf -o /dev/null "$(lab_web_url)"
    sleep 3
}

BENCH_PARTS="meshd sockets proxy"

# bench_resident_kib [PART…]: of the mesh's processes of both nodes.
bench_resident_kib() {
    local node part pid kib total=0
    # shellcheck disable=SC2086 # a list
    [ $# -gt 0 ] || set -- $BENCH_PARTS
    for pid in $(
        for node in $LAB_NODES; do
            for part in "$@"; do cat "$(lab_cgroup "$node")/culvert/$part/cgroup.procs"; done
        done
    ); do
        kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
        total=$((total + kib))
    done
    echo "$total"
}

bench_mib() { awk '{ printf "%.1f", $1 / 1024 }'; }

bench_idle_by_process() {
    local node part pid
    for node in $LAB_NODES; do
        for part in $BENCH_PARTS; do
            while read -r pid; do
                printf 'memory: node %s %-7s %s\n' "$node" "$part" \
                    "$(awk '/^(VmRSS|RssAnon|RssFile)/ { printf "%s %d KiB  ", $1, $2 }' "/proc/$pid/status")"
            done <"$(lab_cgroup "$node")/culvert/$part/cgroup.procs"
        done
    done
}

bench_kernel_kib() {
    awk '$1 ~ /^(TCP|TCPv6|sock_inode_cache|request_sock_TCP|tw_sock_TCP|filp|dentry)$/ { kib += $3 * $4 / 1024 } END { printf "%d", kib }' /proc/slabinfo
}

bench_maps_kib() {
    find "$LAB_BPFFS" -path '*/a/*' -type f 2>/dev/null | while read -r pin; do
        bpftool -j map show pinned "$pin" 2>/dev/null | jq -r '.bytes_memlock // empty'
    done | awk '{ bytes += $1 } END { printf "%d", bytes / 1024 }'
}
