# shellcheck shell=bash
# The result table: rows are added as they are measured and printed once, as text and as JSON.

BENCH_ROWS=()

# bench_row NAME UNIT DIRECT CULVERT ENVOY: `-` for a value that was not measured.
bench_row() { BENCH_ROWS+=("$*"); }

bench_table() {
    local row
    {
        echo "row unit direct culvert envoy"
        for row in "${BENCH_ROWS[@]}"; do echo "$row"; done
    } | column -t
}

bench_json() {
    printf '%s\n' "${BENCH_ROWS[@]}" | jq -Rn '
        def value: if . == "-" then null else tonumber end;
        {rows: [inputs | split(" ") | {row: .[0], unit: .[1], direct: (.[2] | value), culvert: (.[3] | value), envoy: (.[4] | value)}]}'
}

# bench_conditions: what a figure means nothing without.
bench_conditions() {
    printf 'machine: %s cores, %s; kernel %s; congestion control %s; load %s\n' "$(nproc)" \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)" \
        "$(sysctl -n net.ipv4.tcp_congestion_control) (cubic by route in the lab)" "$(cut -d' ' -f1-3 /proc/loadavg)"
}
