# shellcheck shell=bash
# The rows at a distance: 20 ms there and back, and each packet lost with a probability of 1 % in either direction. The
# addresses stay the same, so tunnels and applications notice nothing else. Direct TCP is one connection for each flow.

BENCH_DISTANCE_DEVICE=far0
BENCH_DISTANCE_MS=10
BENCH_DISTANCE_LOSS=1
# Requests a second: far below what one connection of cubic carries there (some 8 Mbit/s).
BENCH_DISTANCE_RATE=200

bench_distance() {
    local BENCH_SECONDS=$((BENCH_SECONDS * 3))
    bench_is_wanted "bulk_1_down_loss bulk_8_down_loss get_32_p50_loss get_32_p99_loss" || return 0
    distance_begin
    bench_rounds probe_bulk bulk_1_down_loss "$BENCH_PATHS" down 1
    bench_rounds probe_bulk bulk_8_down_loss "$BENCH_PATHS" down 8
    bench_awake
    bench_rounds probe_rate "get_32_p50_loss get_32_p99_loss" "$BENCH_PATHS" "$BENCH_DISTANCE_RATE"
    bench_asleep
    distance_end
    bench_medians bulk_1_down_loss GB/s
    bench_medians bulk_8_down_loss GB/s
    bench_medians get_32_p50_loss us
    bench_medians get_32_p99_loss us
    BENCH_NOTES+=("rows with _loss: $((2 * BENCH_DISTANCE_MS)) ms there and back, $BENCH_DISTANCE_LOSS % lost in each direction; $BENCH_DISTANCE_RATE requests/s; measurements of $BENCH_SECONDS s")
}

distance_begin() {
    local node peer netns
    cc -O2 -o "$BENCH_BIN/distance" "$ROOT/tools/lib/bench/distance.c"
    bench_process distance a "$BENCH_BIN/distance" "$(lab_netns a)" "$(lab_netns b)" \
        "$BENCH_DISTANCE_DEVICE" "$BENCH_DISTANCE_MS" "$BENCH_DISTANCE_LOSS"
    for node in $LAB_NODES; do
        peer=$([ "$node" = a ] && echo b || echo a)
        netns=$(lab_netns "$node")
        wait_for 5 ip -n "$netns" link show "$BENCH_DISTANCE_DEVICE" || die "no distance: $(tail -n 1 "$LAB_STATE/log/distance.log")"
        ip -n "$netns" link set "$BENCH_DISTANCE_DEVICE" up txqueuelen 4096
        ip -n "$netns" route add "$(lab_address4 "$peer")/32" dev "$BENCH_DISTANCE_DEVICE" src "$(lab_address4 "$node")" congctl cubic
        ip -n "$netns" -6 route add "$(lab_address6 "$peer")/128" dev "$BENCH_DISTANCE_DEVICE" src "$(lab_address6 "$node")" congctl cubic
    done
}

# The routes go with the devices. What the kernel has learnt of the path is forgotten.
distance_end() {
    local node
    process_end distance
    for node in $LAB_NODES; do ip -n "$(lab_netns "$node")" tcp_metrics flush; done
}
