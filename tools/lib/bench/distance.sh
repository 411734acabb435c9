# shellcheck shell=bash
# The rows at a distance: 20 ms there and back, and each packet lost with a probability of 1 % in either direction
# (lab_distance_begin). Direct TCP is one connection for each flow.

BENCH_DISTANCE_MS=10
BENCH_DISTANCE_LOSS=1
# Requests a second: far below what one connection of cubic carries there (some 8 Mbit/s).
BENCH_DISTANCE_RATE=200

bench_distance() {
    local BENCH_SECONDS=$((BENCH_SECONDS * 3))
    bench_is_wanted "bulk_1_down_loss bulk_8_down_loss get_32_p50_loss get_32_p99_loss" || return 0
    lab_distance_begin "$BENCH_DISTANCE_MS" "$BENCH_DISTANCE_LOSS"
    bench_rounds probe_bulk bulk_1_down_loss "$BENCH_PATHS" down 1
    bench_rounds probe_bulk bulk_8_down_loss "$BENCH_PATHS" down 8
    bench_awake
    bench_rounds probe_rate "get_32_p50_loss get_32_p99_loss" "$BENCH_PATHS" "$BENCH_DISTANCE_RATE"
    bench_asleep
    lab_distance_end
    bench_medians bulk_1_down_loss GB/s
    bench_medians bulk_8_down_loss GB/s
    bench_medians get_32_p50_loss us
    bench_medians get_32_p99_loss us
    BENCH_NOTES+=("rows with _loss: $((2 * BENCH_DISTANCE_MS)) ms there and back, $BENCH_DISTANCE_LOSS % lost in each direction; $BENCH_DISTANCE_RATE requests/s; measurements of $BENCH_SECONDS s")
}
