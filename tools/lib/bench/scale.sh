# shellcheck shell=bash
# tools/bench --scale: what a mesh of many workloads, services and policies costs a node that runs a few of them: CPU and
# time until it is in force, memory, the same for one change, and what traffic feels meanwhile.

# scale_resources WORKLOADS SERVICES POLICIES: YAML. A hundred nodes, a principal for each five workloads.
scale_resources() {
    awk -v workloads="$1" -v services="$2" -v policies="$3" 'BEGIN {
        for (i = 1; i <= 100; i++) printf "kind: Node\nmetadata: {name: n%d}\nspec: {tunnelAddresses: [10.78.0.%d]}\n---\n", i, i
        for (i = 1; i <= workloads; i++) printf "kind: Workload\nmetadata: {name: w%d, namespace: scale, labels: {app: s%d}}\nspec: {serviceAccount: a%d, node: n%d, selector: {cgroup: scale/w%d}, addresses: [10.100.%d.%d]}\n---\n", i, i % services, i / 5, i % 100 + 1, i, i / 250, i % 250 + 1
        for (i = 0; i < services; i++) printf "kind: Service\nmetadata: {name: s%d, namespace: scale}\nspec: {virtualAddresses: [10.98.%d.%d], ports: [{port: 80, targetPort: 8080}], selector: {app: s%d}}\n---\n", i, i / 250, i % 250 + 1, i
        for (i = 0; i < policies; i++) printf "kind: AuthorizationPolicy\nmetadata: {name: p%d, namespace: scale}\nspec: {selector: {matchLabels: {app: s%d}}, action: ALLOW, rules: [{from: [{source: {serviceAccounts: [a%d, a%d]}}], to: [{operation: {ports: [\"8080\"]}}]}]}\n---\n", i, i, i, i + 1
    }'
}

scale_part() { echo "$(lab_cgroup a)/culvert/$1"; }
scale_cpu() { awk '/^usage_usec/ { print $2 }' "$(scale_part "$1")/cpu.stat"; }
scale_rss() { awk '/^VmRSS/ { print $2 }' "/proc/$(head -n 1 "$(scale_part "$1")/cgroup.procs")/status"; }
scale_status() { "$LAB_STATE/bin/meshctl" --socket "$LAB_STATE/a/run/admin.sock" status; }
scale_snapshot() { scale_status | sed -n 's/^proxy:.*snapshot version \([0-9]*\).*/\1/p'; }
# scale_holds SERVICES WORKLOADS: at least so many.
scale_holds() {
    scale_status | awk -v services="$1" -v workloads="$2" '/^mesh:/ { exit !($4 >= services && $6 >= workloads) }'
}
scale_is_newer() { [ "$(scale_snapshot)" -gt "$1" ]; }
scale_answers() { [ -n "$(scale_snapshot)" ]; }

# scale_change NAME COMMAND…: runs the command, which changes the resources, and prints CPU ms of meshd and of the proxy and
# the ms until the proxy uses the new snapshot.
scale_change() {
    local meshd proxy version start
    wait_for 60 scale_answers || die "meshd of node a does not answer"
    meshd=$(scale_cpu meshd) proxy=$(scale_cpu proxy) version=$(scale_snapshot) start=$(date +%s%N)
    "$@"
    wait_for 300 scale_is_newer "$version" || die "the change did not come into force: $(scale_status)"
    start=$((($(date +%s%N) - start) / 1000000))
    sleep 1
    echo "$((($(scale_cpu meshd) - meshd) / 1000)) $((($(scale_cpu proxy) - proxy) / 1000)) $start"
}

scale_load() { scale_resources "$@" >"$LAB_STATE/scale.yaml" && mv "$LAB_STATE/scale.yaml" "$LAB_STATE/a/resources/scale.yaml"; }
scale_add_service() {
    printf 'kind: Service\nmetadata: {name: one-more-%d, namespace: scale}\nspec: {virtualAddresses: [10.99.0.%d], ports: [{port: 80, targetPort: 8080}], selector: {app: s1}}\n' \
        "$1" "$1" >"$LAB_STATE/one.yaml"
    mv "$LAB_STATE/one.yaml" "$LAB_STATE/a/resources/one.yaml"
}

bench_scale() {
    local workloads services load change quiet_p99 busy_p99 number=0 _ BENCH_SECONDS=$((BENCH_SECONDS * 2))
    BENCH_SCALE=("workloads services policies load_cpu_ms load_ms load_proxy_cpu_ms change_cpu_ms change_ms change_proxy_cpu_ms meshd_MiB proxy_MiB p99_us p99_while_changing_us")
    for workloads in 100 1000 5000 10000; do
        services=$((workloads / 10)) number=$((number + 1))
        say "loads $workloads workloads, $services services, $services policies"
        load=$(scale_change scale_load "$workloads" "$services" "$services")
        wait_for 60 scale_holds "$services" "$workloads" || die "the resources are not in force: $(scale_status)"
        read -r _ quiet_p99 < <(probe_rate culvert 500)
        (sleep $((BENCH_SECONDS / 4)) && scale_add_service "$((number + 100))") &
        read -r _ busy_p99 < <(probe_rate culvert 500)
        wait $!
        change=$(scale_change scale_add_service "$number")
        # shellcheck disable=SC2086 # three numbers each
        set -- $load $change
        BENCH_SCALE+=("$workloads $services $services $1 $3 $2 $4 $6 $5 $(scale_rss meshd | bench_mib) $(scale_rss proxy | bench_mib) $quiet_p99 $busy_p99")
    done
    printf '%s\n' "${BENCH_SCALE[@]}" | column -t
    rm -f "$LAB_STATE/a/resources/scale.yaml" "$LAB_STATE/a/resources/one.yaml"
    sleep 3 # they are forgotten before anything else is measured
}
