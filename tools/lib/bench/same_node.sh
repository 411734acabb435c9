# shellcheck shell=bash
# Two workloads of node a over the direct path (path `near`) beside two processes that are not meshed (path `plain`): in
# pairs, one right after the other, as the difference is small. CPU is that of all that take part: both applications and
# the proxy of their node, which has nothing to do with it.

BENCH_PAIRS_MIN=10
# Ports of the servers that are not meshed: this much above the workload's.
BENCH_PLAIN_OFFSET=100

bench_same_node() {
    local BENCH_ROUNDS=$BENCH_ROUNDS before after
    bench_is_wanted "same_node_get_32 same_node_get_cpu_32 same_node_get_32_p50 same_node_bulk same_node_bulk_cpu" || return 0
    [ "$BENCH_ROUNDS" -ge "$BENCH_PAIRS_MIN" ] || BENCH_ROUNDS=$BENCH_PAIRS_MIN
    same_node_start
    same_node_become_direct
    before=$(same_node_proxied)
    bench_rounds probe_requests "same_node_get_32 same_node_get_cpu_32 same_node_get_32_p50" "plain near" 32
    bench_rounds probe_bulk "same_node_bulk same_node_bulk_cpu" "plain near" down 1
    after=$(same_node_proxied)
    [ "$before" = "$after" ] || die "$((after - before)) connections of one node went through its proxy: no direct path"
    same_node_row same_node_get_32 requests/s
    same_node_row same_node_get_cpu_32 us
    same_node_row same_node_get_32_p50 us
    same_node_row same_node_bulk GB/s
    same_node_row same_node_bulk_cpu CPU-s/GB
}

same_node_start() {
    bench_nginx_configure near "$BENCH_WEB_PORT"
    bench_nginx_configure plain $((BENCH_WEB_PORT + BENCH_PLAIN_OFFSET))
    mkdir -p "$(lab_cgroup_root)/plain-load"
    lab_start near-web a w2 taskset -c "$PIN_APPLICATION" nginx -p "$LAB_STATE/web-near" -c "$LAB_STATE/web-near/nginx.conf"
    lab_start near-bulk a w2 taskset -c "$PIN_APPLICATION" "$BENCH_BIN/load" serve "$BENCH_BULK_PORT"
    bench_process plain-web a taskset -c "$PIN_APPLICATION" nginx -p "$LAB_STATE/web-plain" -c "$LAB_STATE/web-plain/nginx.conf"
    bench_process plain-bulk a taskset -c "$PIN_APPLICATION" "$BENCH_BIN/load" serve $((BENCH_BULK_PORT + BENCH_PLAIN_OFFSET))
}

# The first connections take the slow path; meshd writes the verdicts for the next ones.
same_node_become_direct() {
    wait_for 30 same_node_is_direct || die "connections of one node go through its proxy: $(tail -n 2 "$LAB_STATE/a/log/meshd.log")"
}

same_node_is_direct() {
    local port before
    before=$(same_node_proxied)
    for port in "$BENCH_WEB_PORT" "$BENCH_BULK_PORT"; do
        bench_load near "$BENCH_BIN/load" connects "$(bench_host near)" "$port" 1 || return 1
    done
    [ "$(same_node_proxied)" = "$before" ]
}

# Connections that node a's proxy took so far; meshd asks it once a second.
same_node_proxied() {
    sleep 1.5
    bench_metric a meshd_proxy_connections_total
}

# same_node_row ROW UNIT: with the ratio of each pair beside the medians.
same_node_row() {
    local note
    [ -n "${BENCH_SAMPLES[$1 near]:-}" ] || return 0
    bench_row "$1" "$2" "$(bench_median "$1" plain)" "$(bench_median "$1" near)" - - "${BENCH_DISTURBED[$1]:-no}"
    note=$(paste <(tr ' ' '\n' <<<"${BENCH_SAMPLES[$1 plain]# }") <(tr ' ' '\n' <<<"${BENCH_SAMPLES[$1 near]# }") |
        awk '$1 > 0 { printf "%.3f\n", $2 / $1 }' | sort -g | awk '{ v[NR] = $1 } END {
            printf "culvert over direct, pair by pair: median %s of %d, quartiles %s and %s",
                v[int((NR + 1) / 2)], NR, v[int((NR + 3) / 4)], v[int((3 * NR + 3) / 4)] }')
    BENCH_NOTES+=("$1: $note")
}
