# shellcheck shell=bash
# The lab's resolvers: dnsmasq on each node, not meshed, that knows none of the mesh's names. Workloads on the node ask it
# at 127.0.0.53, as systemd-resolved would be; those with a network namespace of their own at the node's address.

LAB_SEARCH_DOMAIN=corp.example
LAB_RESOLVER_ADDRESS=127.0.0.53

# partner.outside.example is node b, which is not of the mesh where nothing of it listens.

# lab_resolv_conf NODE WORKLOAD: the workload's /etc/resolv.conf.
lab_resolv_conf() {
    case $2 in w3 | w4) echo "$LAB_STATE/resolv-$1-own.conf" ;; *) echo "$LAB_STATE/resolv-$1.conf" ;; esac
}

lab_resolvers_start() {
    local node address
    lab_resolver_configure
    for node in $LAB_NODES; do
        if lab_is_ipv6_only; then address=$(lab_address6 "$node"); else address=$(lab_address4 "$node"); fi
        printf 'nameserver %s\nsearch %s\n' "$LAB_RESOLVER_ADDRESS" "$LAB_SEARCH_DOMAIN" >"$LAB_STATE/resolv-$node.conf"
        printf 'nameserver %s\nsearch %s\n' "$address" "$LAB_SEARCH_DOMAIN" >"$LAB_STATE/resolv-$node-own.conf"
        lab_start "resolver-$node" "$node" none dnsmasq --keep-in-foreground --conf-file="$LAB_STATE/resolver.conf" \
            --listen-address="$LAB_RESOLVER_ADDRESS" --listen-address="$address" --listen-address="$(lab_address6 "$node")"
    done
}

# outside.example is a name like any other; many.example.org's answer needs more than 512 bytes; silent.example goes to a
# server that never answers.
lab_resolver_configure() {
    local number
    {
        printf '%s\n' no-resolv no-hosts bind-interfaces user=nobody pid-file= cache-size=0 log-queries log-facility=-
        printf '%s\n' local=/corp.example/ local=/example.org/ local=/outside.example/
        printf '%s\n' host-record=www.outside.example,192.0.2.80,2001:db8::80 server=/silent.example/127.0.0.1#9
        printf 'host-record=partner.outside.example,%s\n' "$(lab_address6 b)"
        lab_is_ipv6_only || printf 'host-record=partner.outside.example,%s\n' "$(lab_address4 b)"
        for number in $(seq 1 60); do printf 'host-record=many.example.org,192.0.2.%s\n' "$number"; done
    } >"$LAB_STATE/resolver.conf"
}
