# shellcheck shell=bash
# A second node in the virtual machine: a network namespace with a meshd and a proxy of its own, outside of systemd's
# slices. The installed node is told to see system.slice alone, or its guard would refuse the second one its ports.
: "${STATE:?set by the script that sources this: a directory}"

PEER=$STATE/peer
PEER_CGROUP=/sys/fs/cgroup/peer
NODE_CONFIGURATION=/etc/culvert/meshd.yaml

# node_sees ROOT: takes the installed node's programs off its cgroup root and puts them on another one.
node_sees() {
    systemctl stop meshd.service 'culvert-proxy@*.service'
    meshd uninstall --config "$NODE_CONFIGURATION" >/dev/null || return 1
    sed -i "s|^cgroupRoot:.*|cgroupRoot: $1|" "$NODE_CONFIGURATION"
    systemctl start culvert-proxy@main.service meshd.service && wait_until 60 ready
}

peer_network() {
    ip netns add peer
    ip link add peer0 type veth peer name peer0 netns peer
    ip link set peer0 up
    # On this device: neighbours ask for IPv6 addresses of the one that they are at, unlike ARP.
    ip address add fd77::1/128 dev peer0 nodad
    ip -n peer link set lo up
    ip -n peer link set peer0 up
    ip -n peer address add 10.77.0.2/32 dev peer0
    ip -n peer address add fd77::2/128 dev peer0 nodad
    ip route replace 10.77.0.2/32 dev peer0 src 10.77.0.1
    ip -6 route replace fd77::2/128 dev peer0 src fd77::1
    ip -n peer route add 10.77.0.1/32 dev peer0 src 10.77.0.2
    ip -n peer -6 route add fd77::1/128 dev peer0 src fd77::2
}

# peer_resources TUNNEL-ADDRESSES-OF-VM TUNNEL-ADDRESSES-OF-PEER: both nodes read the same files.
peer_resources() {
    sed -i -e "/^metadata: {name: vm}/{n;s|tunnelAddresses: .*|tunnelAddresses: [$1]}|}" \
        -e 's|addresses: \[10.77.0.1\]|addresses: [10.77.0.1, "fd77::1"]|' /etc/culvert/resources/mesh.yaml
    cat >/etc/culvert/resources/peer.yaml.new <<YAML
kind: Node
metadata: {name: peer}
spec: {tunnelAddresses: [$2]}
---
kind: Workload
metadata: {name: far, namespace: default, labels: {app: far}}
spec: {serviceAccount: far, node: peer, selector: {cgroup: workloads/far}, addresses: [10.77.0.2, "fd77::2"], ports: [8080]}
---
kind: Service
metadata: {name: far, namespace: default}
spec: {virtualAddresses: [10.96.0.20, "fd96::20"], ports: [{port: 80, targetPort: 8080}], selector: {app: far}}
YAML
    mv /etc/culvert/resources/peer.yaml.new /etc/culvert/resources/peer.yaml
}

peer_configuration() {
    mkdir -p "$PEER/run" "$PEER/state" "$PEER/web"
    chmod 755 "$STATE" "$PEER" "$PEER/run" "$PEER/web"
    meshctl ca issue --directory "$STATE/ca" --output "$PEER/certificates" --namespace default --service-account far >/dev/null
    cat >"$PEER/meshd.yaml" <<YAML
node: peer
trustDomain: vm.example
cgroupRoot: $PEER_CGROUP
runtimeDirectory: $PEER/run
stateDirectory: $PEER/state
resources: /etc/culvert/resources
certificates: $PEER/certificates
admin: {group: root}
proxy: {user: culvert, launch: process}
YAML
    echo "hello from the peer" >"$PEER/web/index.html"
    cat >"$PEER/nginx.conf" <<CONF
daemon off; pid $PEER/nginx.pid; error_log stderr;
events {}
http { access_log off; server { listen 10.77.0.2:8080; listen [fd77::2]:8080; root $PEER/web; } }
CONF
}

# peer_run CGROUP COMMAND…: in the background, in the peer's network namespace and that cgroup from its first moment.
peer_run() {
    mkdir -p "$PEER_CGROUP/$1"
    setsid sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec nsenter --net=/run/netns/peer -- "$@"' \
        sh "$PEER_CGROUP/$1" "${@:2}" >>"$PEER/log" 2>&1 </dev/null &
}

peer_is_ready() { nsenter --net=/run/netns/peer curl -sf -m 5 -o /dev/null http://127.0.0.1:15021/healthz/ready; }
peer_starts() {
    node_sees /sys/fs/cgroup/system.slice || return 1
    peer_network
    peer_configuration
    peer_resources '10.77.0.1, "fd77::1"' '10.77.0.2, "fd77::2"'
    peer_run . meshd --config "$PEER/meshd.yaml"
    peer_run workloads/far nginx -c "$PEER/nginx.conf"
    wait_until 90 peer_is_ready || {
        tail -n 20 "$PEER/log"
        return 1
    }
}

peer_answers() { as_client curl -gsf -m 20 --retry 20 --retry-delay 1 --retry-connrefused "$1" | grep -q "hello from the peer"; }
peer_carries() { wait_until 90 peer_answers "http://10.96.0.20/" && wait_until 60 peer_answers "http://[fd96::20]/"; }
# Both families of connections, through a tunnel between IPv6 addresses: the one between IPv4 addresses is given up.
peer_carries_over_ipv6() {
    peer_resources '"fd77::1"' '"fd77::2"'
    peer_carries || {
        tail -n 20 "$PEER/log"
        return 1
    }
    wait_until 30 peer_tunnel_is '\[fd77::2\]:15008' || {
        meshctl tunnels -o json
        return 1
    }
}
peer_tunnel_is() {
    meshctl tunnels -o json | grep '"direction":"outbound"' | grep '"peer_principal":"spiffe://vm.example/ns/default/sa/far"' |
        grep -q "\"peer\":\"$1\""
}
peer_is_seen() {
    wait_until 30 peer_tunnel_is 10.77.0.2:15008 || { meshctl tunnels -o json && return 1; }
    meshctl flows -o json --since 60s | grep '"destination_principal":"spiffe://vm.example/ns/default/sa/far"' |
        grep -q '"peer_node":"peer"'
}
peer_stops() {
    echo 1 >"$PEER_CGROUP/cgroup.kill"
    sleep 1
    meshd uninstall --config "$PEER/meshd.yaml" || return 1
    find "$PEER_CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null
    ip netns delete peer
    rm -rf "$PEER" /etc/culvert/resources/peer.yaml
    sed -i -e 's|tunnelAddresses: .*|tunnelAddresses: [10.77.0.1]}|' \
        -e 's|addresses: \[10.77.0.1, "fd77::1"\]|addresses: [10.77.0.1]|' /etc/culvert/resources/mesh.yaml
    node_sees /sys/fs/cgroup && wait_until 60 greeted
}

peer_checks() {
    check_that "a second node starts beside the installed one" peer_starts
    check_that "its tunnel carries IPv4 and IPv6" peer_carries
    check_that "the tunnel and its flows name both nodes" peer_is_seen
    check_that "a tunnel between IPv6 addresses carries both too" peer_carries_over_ipv6
    check_that "without the second node the installed one serves all of the machine again" peer_stops
}
