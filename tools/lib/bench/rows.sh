# shellcheck shell=bash
# The result table: rows are added as they are measured and printed once, as text and as JSON.

BENCH_ROWS=()
BENCH_NOTES=()

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
    for note in ${BENCH_NOTES[@]+"${BENCH_NOTES[@]}"}; do echo "$note"; done
    ! printf '%s\n' "${BENCH_ROWS[@]}" | grep -q ' yes$' ||
        echo "* other load took more than $BENCH_OTHER_MAX % of the machine during one of its measurements, repeats included"
}

bench_json() {
    printf '%s\n' "${BENCH_ROWS[@]}" | jq -Rn --arg conditions "$BENCH_CONDITIONS" '
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
        "; load before $(cut -d' ' -f1-3 /proc/loadavg); $(openssl version | cut -d' ' -f1,2)" \
        "${BENCH_ENVOY_VERSION:+; Envoy $BENCH_ENVOY_VERSION}; $BENCH_THREADS thread(s) a proxy" \
        "; processors: load $PIN_LOAD, proxy beside it $PIN_CLIENT, other proxy $PIN_SERVER, application $PIN_APPLICATION" \
        "; medians of $BENCH_ROUNDS rounds of $BENCH_SECONDS s")
    printf 'conditions: %s\n' "$BENCH_CONDITIONS"
}
