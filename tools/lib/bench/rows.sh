# shellcheck shell=bash
# The result table: rows are added as they are measured and printed once, as text and as JSON.

BENCH_ROWS=()
# What --only knows.
BENCH_NAMES="rss_idle rss_idle_all idle_kib bulk_1_down bulk_8_down bulk_1_up bulk_8_up bulk_cpu_1 bulk_cpu_8 bulk_cpu_1_up
    bulk_cpu_8_up get_1 get_cpu_1 get_1_p50 get_32 get_cpu_32 get_256 get_cpu_256 get_32_p50 get_32_p99 get_32_p99_beside_bulk
    new_connections new_cpu handshakes handshake_cpu connect_cpu same_node_get_32 same_node_get_cpu_32 same_node_get_32_p50
    same_node_bulk same_node_bulk_cpu bulk_1_down_loss bulk_8_down_loss get_32_p50_loss get_32_p99_loss bulk_8_down_threads_2
    bulk_cpu_8_threads_2 get_256_threads_2 get_cpu_256_threads_2 new_connections_threads_2 new_cpu_threads_2
    handshakes_threads_2 handshake_cpu_threads_2"
BENCH_SCALE_NAMES="workloads principals"
BENCH_NOTES=()

# bench_names_known NAMES SCALE(yes|no): ends the run before anything is built where --only names what there is not.
bench_names_known() {
    local name known=$BENCH_NAMES
    [ "$2" = no ] || known=$BENCH_SCALE_NAMES
    known=$(tr -s ' \n' ' ' <<<"$known")
    for name in ${1//,/ }; do
        [[ " $known " == *" $name "* ]] || die "there is no row $name; --only knows: $known"
    done
}

# bench_row NAME UNIT DIRECT CULVERT ENVOY [HAPROXY [DISTURBED(yes|no)]]: `-` for a value that was not measured.
bench_row() { BENCH_ROWS+=("$1 $2 $3 $4 $5 ${6:--} ${7:-no}"); }

bench_table() {
    local row note
    {
        echo "row unit direct culvert envoy culvert/envoy haproxy"
        for row in "${BENCH_ROWS[@]}"; do echo "$row"; done | awk '{
            ratio = $4 != "-" && $5 != "-" && $5 != 0 ? sprintf("%.2f", $4 / $5) : "-"
            print $1 ($7 == "yes" ? "*" : ""), $2, $3, $4, $5, ratio, $6 }'
    } | column -t
    bench_other_load
    for note in ${BENCH_NOTES[@]+"${BENCH_NOTES[@]}"}; do echo "$note"; done
    ! printf '%s\n' "${BENCH_ROWS[@]}" | grep -q ' yes$' ||
        echo "* other load took more than $BENCH_OTHER_MAX % of the machine during one of its measurements, repeats included"
}

bench_json() {
    printf '%s\n' "${BENCH_ROWS[@]}" | jq -Rn --arg conditions "$BENCH_CONDITIONS; $(bench_other_load)" '
        def value: if . == "-" then null else tonumber end;
        {conditions: $conditions, rows: [inputs | split(" ")
            | {row: .[0], unit: .[1], direct: (.[2] | value), culvert: (.[3] | value), envoy: (.[4] | value)}
              + (if .[5] == "-" then {} else {haproxy: (.[5] | value)} end)
              + (if .[6] == "yes" then {disturbed: true} else {} end)]}'
}

# bench_conditions: what a figure means nothing without.
bench_conditions() {
    BENCH_CONDITIONS=$(printf '%s' "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "; kernel $(uname -r); cubic by route, the machine's own is $(sysctl -n net.ipv4.tcp_congestion_control)" \
        "; load before $BENCH_LOAD_BEFORE; $(openssl version | cut -d' ' -f1,2)" \
        "${BENCH_ENVOY_VERSION:+; Envoy $BENCH_ENVOY_VERSION}; $BENCH_THREADS thread(s) a proxy" \
        "; processors: load $PIN_LOAD, proxy beside it $PIN_CLIENT, other proxy $PIN_SERVER, application $PIN_APPLICATION" \
        "; medians of $BENCH_ROUNDS rounds of $BENCH_SECONDS s")
    printf 'conditions: %s\n' "$BENCH_CONDITIONS"
}
