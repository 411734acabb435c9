# shellcheck shell=bash
# The rows about traffic: bulk, requests, latency, new connections, handshakes, and the cost of a captured connect.

bench_traffic() {
    local rate
    bench_rounds probe_bulk "bulk_1_down bulk_cpu_1" "$BENCH_PATHS" down 1
    bench_rounds probe_bulk "bulk_8_down bulk_cpu_8" "$BENCH_PATHS" down 8
    bench_rounds probe_bulk "bulk_1_up bulk_cpu_1_up" "$BENCH_PATHS" up 1
    bench_rounds probe_bulk "bulk_8_up bulk_cpu_8_up" "$BENCH_PATHS" up 8
    bench_awake
    bench_rounds probe_requests "get_1 get_cpu_1 get_1_p50" "$BENCH_PATHS" 1
    bench_asleep
    bench_rounds probe_requests "get_32 get_cpu_32" "$BENCH_PATHS" 32
    bench_rounds probe_requests "get_256 get_cpu_256" "$BENCH_PATHS" 256
    if [ -z "$(bench_open_rate)" ] && bench_is_wanted "get_32_p50 get_32_p99 get_32_p99_beside_bulk"; then
        BENCH_ONLY='' bench_rounds probe_requests "get_32 get_cpu_32" "$BENCH_PATHS" 32
    fi
    rate=$(bench_open_rate)
    bench_awake
    bench_rounds probe_rate "get_32_p50 get_32_p99" "$BENCH_PATHS" "$rate"
    bench_asleep
    bench_rounds probe_new "new_connections new_cpu" "$BENCH_PATHS"
    bench_rounds probe_handshakes "handshakes handshake_cpu" "$BENCH_TLS_PATHS"
    bench_rounds probe_connects "connect_cpu" "direct culvert"
    bench_fairness "$rate"
    bench_traffic_rows "$rate"
}

bench_traffic_rows() {
    local row
    [ -z "$1" ] || BENCH_NOTES+=("get_32_p50, get_32_p99: open loop at $1 requests/s, half of what the slower path can")
    for row in bulk_1_down bulk_1_up bulk_8_down bulk_8_up; do bench_medians "$row" GB/s; done
    for row in bulk_cpu_1 bulk_cpu_8 bulk_cpu_1_up bulk_cpu_8_up; do bench_medians "$row" CPU-s/GB; done
    for row in get_1 get_32 get_256; do bench_medians "$row" requests/s; done
    for row in get_1_p50 get_32_p50 get_32_p99 get_32_p99_beside_bulk; do bench_medians "$row" us; done
    for row in get_cpu_1 get_cpu_32 get_cpu_256; do bench_medians "$row" us; done
    bench_medians new_connections 1/s
    bench_medians new_cpu us
    bench_medians handshakes 1/s
    bench_medians handshake_cpu us
    bench_medians connect_cpu us
}

# Half of what the slower of the tunnelled paths managed in a closed loop.
bench_open_rate() {
    { for path in $BENCH_PATHS; do [ "$path" = direct ] || bench_median get_32 "$path"; done; } | sort -g | head -n 1 |
        awk '$1 > 0 { printf "%d\n", $1 / 2 }'
}

# Prints GB/s and the proxies' CPU seconds per GB.
probe_bulk() {
    local path=$1 before after bytes time total
    before=$(bench_cpu "$path")
    read -r bytes time total < <(bench_load "$path" "$BENCH_BIN/load" bulk "$(bench_host "$path" 18)" \
        "$(bench_port "$path" "$BENCH_BULK_PORT")" "$2" "$3" "$BENCH_SECONDS")
    after=$(bench_cpu "$path")
    [ "${total:-0}" -gt 0 ] || return 1
    awk -v bytes="$bytes" -v time="$time" -v total="$total" -v cpu=$((after - before)) \
        'BEGIN { printf "%.4g %.3f\n", bytes / time, cpu * 1000 / total }'
}

# bench_wrk PATH CONNECTIONS [ARGUMENT…]: prints requests, requests/s, p50 in us.
bench_wrk() {
    local path=$1 connections=$2
    shift 2
    bench_load "$path" wrk -t 1 -c "$connections" -d "${BENCH_SECONDS}s" --latency "$@" "$(bench_web "$path")" | awk '
        function us(text) { return text ~ /us$/ ? text + 0 : text ~ /ms$/ ? text * 1000 : text * 1000000 }
        $1 == "50%" { p50 = us($2) }
        /requests in/ { requests = $1 }
        /Requests\/sec/ { rate = $2 }
        /Non-2xx/ { bad = $NF }
        END { if (bad > 0 || requests == 0) exit 1; print requests, rate, p50 }'
}

# Prints requests/s, the proxies' CPU microseconds per request, p50 in us.
probe_requests() {
    local path=$1 before after requests rate p50
    before=$(bench_cpu "$path")
    read -r requests rate p50 < <(bench_wrk "$path" "$2")
    after=$(bench_cpu "$path")
    [ "${requests:-0}" -gt 0 ] || return 1
    echo "$rate $(awk -v cpu=$((after - before)) -v n="$requests" 'BEGIN { printf "%.1f", cpu / n }') $p50"
}

probe_new() {
    local path=$1 before after requests rate _
    before=$(bench_cpu "$path")
    read -r requests rate _ < <(bench_wrk "$path" 32 -H "Connection: close")
    after=$(bench_cpu "$path")
    [ "${requests:-0}" -gt 0 ] || return 1
    echo "$rate $(awk -v cpu=$((after - before)) -v n="$requests" 'BEGIN { printf "%.1f", cpu / n }')"
}

# Prints p50 and p99 in us.
probe_rate() {
    local _ p50 p99
    read -r _ p50 p99 < <(bench_load "$1" "$BENCH_BIN/load" rate "$(bench_host "$1" 16)" \
        "$(bench_port "$1" "$BENCH_WEB_PORT")" 32 "$2" "$BENCH_SECONDS")
    [ -n "${p99:-}" ] && echo "$p50 $p99"
}

# The same beside one bulk stream to the same node, at a tenth of the rate: what is left of the tunnel.
bench_fairness() {
    bench_awake
    bench_rounds probe_beside_bulk "get_32_p99_beside_bulk" "$BENCH_PATHS" "$((${1:-0} / 10 + 1))"
    bench_asleep
}

probe_beside_bulk() {
    local bulk _ p99
    (bench_load "$1" timeout 60 "$BENCH_BIN/load" bulk "$(bench_host "$1" 18)" "$(bench_port "$1" "$BENCH_BULK_PORT")" down 1 \
        "$((BENCH_SECONDS * 2))") >/dev/null &
    bulk=$!
    sleep 0.3
    read -r _ _ p99 < <(bench_load "$1" "$BENCH_BIN/load" rate "$(bench_host "$1" 16)" \
        "$(bench_port "$1" "$BENCH_WEB_PORT")" 32 "$2" "$BENCH_SECONDS")
    wait "$bulk" || return 1
    [ -n "${p99:-}" ] && echo "$p99"
}

# Prints cold tunnels per second and the server's CPU microseconds for each.
probe_handshakes() {
    local path=$1 port before after count time total certificate key authority
    case $path in
    culvert) port=$LAB_TUNNEL_PORT ;;
    envoy) port=$BENCH_ENVOY_PORT ;;
    haproxy) port=$BENCH_HAPROXY_PORT ;;
    esac
    bench_certificate a w1
    before=$(bench_cpu "$path" b)
    read -r count time total < <(bench_load "direct" "$BENCH_BIN/handshakes" "$(lab_address4 b)" "$port" "$certificate" "$key" \
        "$authority" "$(bench_server_name "$(lab_principal b w2)")" "$BENCH_SECONDS" 4)
    after=$(bench_cpu "$path" b)
    [ "${total:-0}" -gt 0 ] || return 1
    awk -v n="$count" -v time="$time" -v total="$total" -v cpu=$((after - before)) \
        'BEGIN { printf "%.0f %.0f\n", n * 1e9 / time, cpu / total }'
}

# The name by which clients ask for a principal's certificate.
bench_server_name() { printf 'p-%s.culvert.internal\n' "$(printf %s "$1" | sha256sum | cut -c1-32)"; }

# Prints CPU microseconds of connect() itself.
probe_connects() {
    bench_load "$1" "$BENCH_BIN/load" connects "$(bench_host "$1" 16)" "$(bench_port "$1" "$BENCH_WEB_PORT")" 1000 |
        awk '{ printf "%.2f\n", $1 / 1000 }'
}
