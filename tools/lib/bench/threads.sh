# shellcheck shell=bash
# The rows at two threads a proxy, in a lab of their own after all others, so that one run shows both. With fewer than
# six processors the threads share them with the load and the application: CPU for each unit is what says something then.

bench_threads() {
    bench_is_wanted "bulk_8_down_threads_2 bulk_cpu_8_threads_2 get_256_threads_2 get_cpu_256_threads_2 new_connections_threads_2
        new_cpu_threads_2 handshakes_threads_2 handshake_cpu_threads_2" || return 0
    # shellcheck disable=SC2034 # for tools/bench and paths.sh
    BENCH_THREADS=2
    bench_up
    bench_rounds probe_bulk "bulk_8_down_threads_2 bulk_cpu_8_threads_2" "$BENCH_PATHS" down 8
    bench_rounds probe_requests "get_256_threads_2 get_cpu_256_threads_2" "$BENCH_PATHS" 256
    bench_rounds probe_new "new_connections_threads_2 new_cpu_threads_2" "$BENCH_PATHS"
    bench_rounds probe_handshakes "handshakes_threads_2 handshake_cpu_threads_2" "$BENCH_TLS_PATHS"
    bench_medians bulk_8_down_threads_2 GB/s
    bench_medians bulk_cpu_8_threads_2 CPU-s/GB
    bench_medians get_256_threads_2 requests/s
    bench_medians get_cpu_256_threads_2 us
    bench_medians new_connections_threads_2 1/s
    bench_medians new_cpu_threads_2 us
    bench_medians handshakes_threads_2 1/s
    bench_medians handshake_cpu_threads_2 us
}
