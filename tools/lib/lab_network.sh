# shellcheck shell=bash
# The lab's network: the nodes joined by one veth pair, two workloads of each node behind it in network namespaces of
# their own. Static addresses, no duplicate address detection, cubic everywhere: the machine's default may be BBR, which
# slows transfers over veth two- to threefold.

lab_network_make() {
    local node workload
    for node in $LAB_NODES; do netns_make "$(lab_netns "$node")"; done
    ip link add "$LAB_LINK" netns "$(lab_netns a)" type veth peer name "$LAB_LINK" netns "$(lab_netns b)"
    for node in $LAB_NODES; do lab_node_network "$node"; done
    for node in $LAB_NODES; do lab_workload_networks "$node"; done
    for node in $LAB_NODES; do
        for workload in "" $LAB_OWN_NETNS; do netns_pin_cubic "$(lab_netns "$node" "$workload")"; done
    done
}

netns_make() {
    ip netns add "$1"
    ip -n "$1" link set lo up
    in_netns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
        net.ipv6.conf.default.accept_dad=0
}

# Pins cubic on every route: a namespace may not choose another default than the machine's. For IPv4 that includes
# loopback, where captured connections run; IPv6's local routes can't be changed.
netns_pin_cubic() {
    local netns=$1 line route
    {
        ip -n "$netns" -4 route show table all | grep -vE '^broadcast' | sed 's/^/-4 /'
        ip -n "$netns" -6 route show | grep -vE '^(fe80|multicast)' | sed 's/^/-6 /; s/ pref medium//'
    } | sort -u | while read -r line; do
        read -ra route <<<"$line"
        ip -n "$netns" "${route[0]}" route change "${route[@]:1}" congctl cubic
    done
}

# in_netns NAME COMMAND…: unlike `ip netns exec` it keeps the mounts under /sys (cgroups, bpffs).
in_netns() { nsenter --net="/run/netns/$1" -- "${@:2}"; }

# netns_address NETNS DEVICE IPV4/LENGTH IPV6/LENGTH
netns_address() {
    lab_is_ipv6_only || ip -n "$1" address add "$3" dev "$2"
    ip -n "$1" address add "$4" dev "$2" nodad
}

lab_node_network() {
    local node=$1 netns peer
    netns=$(lab_netns "$node")
    peer=$([ "$node" = a ] && echo b || echo a)
    ip -n "$netns" link set "$LAB_LINK" up
    netns_address "$netns" "$LAB_LINK" "$(lab_address4 "$node")/24" "$(lab_address6 "$node")/64"
    lab_is_ipv6_only || ip -n "$netns" route add "10.77.$(lab_node_number "$peer").0/24" via "$(lab_address4 "$peer")"
    ip -n "$netns" -6 route add "fd77:0:0:$(lab_node_number "$peer")::/64" via "$(lab_address6 "$peer")"
}

# The node's end of each veth has no address of its own: the workload's gateway is the node's address (fe80::1 for IPv6),
# so what the node sends there has its usual source address.
lab_workload_networks() {
    local node=$1 workload netns inner
    netns=$(lab_netns "$node")
    for workload in $LAB_OWN_NETNS; do
        inner=$(lab_netns "$node" "$workload")
        netns_make "$inner"
        ip link add "$workload" netns "$netns" type veth peer name eth0 netns "$inner"
        ip -n "$netns" link set "$workload" up
        ip -n "$inner" link set eth0 up
        netns_address "$inner" eth0 "$(lab_address4 "$node" "$workload")/32" "$(lab_address6 "$node" "$workload")/128"
        if ! lab_is_ipv6_only; then
            ip -n "$netns" route add "$(lab_address4 "$node" "$workload")/32" dev "$workload" src "$(lab_address4 "$node")"
            ip -n "$inner" route add default via "$(lab_address4 "$node")" dev eth0 onlink
        fi
        ip -n "$netns" address add fe80::1/64 dev "$workload" nodad
        ip -n "$netns" -6 route add "$(lab_address6 "$node" "$workload")/128" dev "$workload" src "$(lab_address6 "$node")"
        ip -n "$inner" -6 route add default via fe80::1 dev eth0
    done
}

lab_network_remove() {
    local node workload
    for node in $LAB_NODES; do
        for workload in $LAB_OWN_NETNS ""; do netns_remove "$(lab_netns "$node" "$workload")"; done
    done
}

netns_remove() {
    [ ! -e "/run/netns/$1" ] || ip netns delete "$1"
}
