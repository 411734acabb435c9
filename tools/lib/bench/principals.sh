# shellcheck shell=bash
# tools/bench --scale, its second table: so many client principals of node a, each with one connection, so each with a tunnel
# of its own, to one workload of node b.

PRINCIPALS=500

bench_principals() {
    local cgroups started=("" "") memory=("" "") cpu=("" "") opened
    cgroups=$(lab_cgroup a)/workloads
    say "makes $PRINCIPALS workloads of node a, each with a principal and a certificate"
    principals_make "$cgroups"
    lab_start principals-server b w2 python3 "$ROOT/tools/lib/bench/idle_connections.py" serve "$BENCH_IDLE_PORT"
    wait_for 120 principals_are_known || die "node a has $(principals_certificates) certificates: $(tail -n 2 "$LAB_STATE/a/log/meshd.log")"
    sleep 5 # the snapshots and contexts are made
    started=("$(principals_tunnels a)" "$(principals_tunnels b)")
    memory=("$(principals_kib a)" "$(principals_kib b)") cpu=("$(bench_cpu culvert a)" "$(bench_cpu culvert b)")
    lab_start principals a none "$BENCH_BIN/load" principals "$(lab_virtual4 21)" "$BENCH_IDLE_PORT" "$cgroups/p" "$PRINCIPALS"
    wait_for 120 test -s "$LAB_STATE/log/principals.log" || die "the connections were not opened"
    opened=$(cat "$LAB_STATE/log/principals.log")
    [[ $opened =~ ^[0-9]+$ ]] || die "the connections were not opened: $opened"
    cpu=($(($(bench_cpu culvert a) - cpu[0])) $(($(bench_cpu culvert b) - cpu[1])))
    sleep 10 # buffers of the set-up are given back
    memory=($(($(principals_kib a) - memory[0])) $(($(principals_kib b) - memory[1])))
    started=($(($(principals_tunnels a) - started[0])) $(($(principals_tunnels b) - started[1])))
    if [ "${started[0]}" -lt "$PRINCIPALS" ] || [ "${started[1]}" -lt "$PRINCIPALS" ]; then
        die "there are ${started[*]} tunnels more, not $PRINCIPALS"
    fi
    {
        echo "principals tunnels open_after_ms client_cpu_us server_cpu_us client_KiB server_KiB"
        awk -v n="$PRINCIPALS" -v tunnels="${started[0]}" -v ns="$opened" -v cpu="${cpu[*]}" -v kib="${memory[*]}" 'BEGIN {
            split(cpu, c); split(kib, m)
            printf "%d %d %.0f %.0f %.0f %.1f %.1f\n", n, tunnels, ns / 1e6, c[1] / n, c[2] / n, m[1] / n, m[2] / n }'
    } | column -t
    process_end principals
    process_end principals-server
}

# principals_make CGROUPS: both nodes must know whom node a may speak for. Workloads that share an address declare ports.
principals_make() {
    local i node addresses
    addresses=$(lab_addresses a)
    for i in $(seq "$PRINCIPALS"); do
        mkdir -p "$1/p$i"
        lab_certificate "$LAB_STATE/ca" "$LAB_STATE/a/certificates" "p$i"
    done
    for node in $LAB_NODES; do
        for i in $(seq "$PRINCIPALS"); do
            printf 'kind: Workload\nmetadata: {name: p%d, namespace: %s}\n' "$i" "$LAB_NAMESPACE"
            printf 'spec: {serviceAccount: p%d, node: a, selector: {cgroup: workloads/p%d}, addresses: %s, ports: [%d]}\n---\n' \
                "$i" "$i" "$addresses" $((20000 + i))
        done >"$LAB_STATE/principals.yaml"
        mv "$LAB_STATE/principals.yaml" "$LAB_STATE/$node/resources/principals.yaml"
    done
}

principals_certificates() { bench_metrics a | grep -c '^meshd_certificate_expiry_timestamp_seconds{.*/sa/p[0-9]'; }
principals_are_known() { [ "$(principals_certificates)" -eq "$PRINCIPALS" ] && scale_holds 1 "$PRINCIPALS"; }
principals_tunnels() { bench_metric "$1" meshd_proxy_tunnels; }
principals_kib() {
    local pid
    while read -r pid; do awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; done <"$(lab_cgroup "$1")/culvert/proxy/cgroup.procs" |
        awk '{ kib += $1 } END { print kib + 0 }'
}
