# shellcheck shell=bash
# What the mesh weighs: resident memory without a connection, and per idle connection at a given number of them.

BENCH_IDLE_PORT=7007

bench_idle() {
    local count=$1 before after kernel_before kernel_after held
    lab_mesh_settled
    before=$(bench_resident_kib)
    kernel_before=$(bench_kernel_kib)
    bench_row rss_idle MiB - "$(bench_resident_kib proxy | bench_mib)" -
    bench_row rss_idle_all MiB - "$(bench_mib <<<"$before")" -
    bench_idle_by_process
    lab_start idle-server b w2 python3 "$ROOT/tools/lib/bench/idle_connections.py" serve "$BENCH_IDLE_PORT"
    lab_start idle-client a w1 python3 "$ROOT/tools/lib/bench/idle_connections.py" hold idle "$BENCH_IDLE_PORT" "$count" \
        "$LAB_STATE/idle-held"
    wait_for 180 test -s "$LAB_STATE/idle-held" || die "the idle connections were not reached: $(tail -n 1 "$LAB_STATE/log/idle-client.log")"
    held=$(cat "$LAB_STATE/idle-held")
    sleep 10 # buffers of the set-up are given back
    after=$(bench_resident_kib)
    kernel_after=$(bench_kernel_kib)
    bench_row idle_kib KiB - "$(awk -v a="$after" -v b="$before" -v n="$held" 'BEGIN { printf "%.2f", (a - b) / n }')" -
    printf 'idle: %d connections held; both nodes together %d KiB before, %d KiB after\n' "$held" "$before" "$after"
    printf 'kernel: TCP sockets and socket inodes %+.2f KiB a connection (all legs, both nodes); BPF maps %d KiB a node\n' \
        "$(awk -v a="$kernel_after" -v b="$kernel_before" -v n="$held" 'BEGIN { print (a - b) / n }')" "$(bench_maps_kib)"
    bench_idle_by_process
    process_end idle-client
    process_end idle-server
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
