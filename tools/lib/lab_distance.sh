# shellcheck shell=bash
# A distance between the two nodes: each packet takes its time, and some are lost. Addresses stay the same, so that tunnels
# and applications notice nothing else.

LAB_DISTANCE_DEVICE=far0

# lab_distance_begin DELAY-MS LOSS-PERCENT, both for each direction.
lab_distance_begin() {
    local node peer netns
    lab_distance_end
    cc -O2 -o "$LAB_STATE/bin/distance" "$ROOT/tools/lib/lab_distance.c"
    mkdir -p "$(lab_cgroup_root)/distance"
    # shellcheck disable=SC2016 # for the inner shell
    process_start distance "$LAB_STATE/log/distance.log" sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh \
        "$(lab_cgroup_root)/distance" "$LAB_STATE/bin/distance" "$(lab_netns a)" "$(lab_netns b)" "$LAB_DISTANCE_DEVICE" "$1" "$2"
    for node in $LAB_NODES; do
        peer=$([ "$node" = a ] && echo b || echo a)
        netns=$(lab_netns "$node")
        wait_for 5 ip -n "$netns" link show "$LAB_DISTANCE_DEVICE" || die "no distance: $(tail -n 1 "$LAB_STATE/log/distance.log")"
        ip -n "$netns" link set "$LAB_DISTANCE_DEVICE" up txqueuelen 4096
        if ! lab_is_ipv6_only; then
            ip -n "$netns" route add "$(lab_address4 "$peer")/32" dev "$LAB_DISTANCE_DEVICE" src "$(lab_address4 "$node")" congctl cubic
        fi
        ip -n "$netns" -6 route add "$(lab_address6 "$peer")/128" dev "$LAB_DISTANCE_DEVICE" src "$(lab_address6 "$node")" congctl cubic
    done
}

# The routes go with the devices. What the kernel has learnt of the path is forgotten.
lab_distance_end() {
    local node
    process_end distance
    for node in $LAB_NODES; do ip -n "$(lab_netns "$node")" tcp_metrics flush; done
}
