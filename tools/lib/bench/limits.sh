# shellcheck shell=bash
# The two promises about size, by node: what meshd and its proxy hold without a connection, and what each idle tunnelled
# connection adds. Over one of them the benchmark fails.

BENCH_IDLE_KIB_MAX=$((32 * 1000 * 1000 / 1024))
BENCH_CONNECTION_KIB_MAX=0.75
BENCH_OVER=0
declare -A BENCH_NODE_KIB=()

bench_limits_begin() {
    local node
    for node in $LAB_NODES; do
        BENCH_NODE_KIB[$node]=$(bench_node_kib "$node")
        bench_limit "node $node, meshd and proxy, idle" "${BENCH_NODE_KIB[$node]}" "$BENCH_IDLE_KIB_MAX"
    done
}

# bench_limits_with HELD: while so many idle connections are there.
bench_limits_with() {
    local node
    for node in $LAB_NODES; do
        bench_limit "node $node, each of $1 idle connections" \
            "$(awk -v a="$(bench_node_kib "$node")" -v b="${BENCH_NODE_KIB[$node]}" -v n="$1" 'BEGIN { printf "%.3f", (a - b) / n }')" \
            "$BENCH_CONNECTION_KIB_MAX"
    done
}

bench_node_kib() {
    local part pid
    for part in meshd proxy; do
        while read -r pid; do awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; done \
            <"$(lab_cgroup "$1")/culvert/$part/cgroup.procs"
    done | awk '{ kib += $1 } END { print kib + 0 }'
}

# bench_limit WHAT KIB KIB-AT-MOST
bench_limit() {
    local verdict=ok
    awk -v value="$2" -v most="$3" 'BEGIN { exit !(value > 0 && value <= most) }' || verdict=OVER BENCH_OVER=$((BENCH_OVER + 1))
    printf 'limit: %s: %s KiB of at most %s: %s\n' "$1" "$2" "$3" "$verdict"
}

bench_limits_hold() { [ "$BENCH_OVER" -eq 0 ] || die "$BENCH_OVER of the limits on size do not hold"; }
