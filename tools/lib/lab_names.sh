# shellcheck shell=bash
# shellcheck disable=SC2034  # constants for the files beside this one
# Names, addresses and places of the lab: two nodes a and b, each a network namespace and a cgroup subtree. Everything
# carries the prefix LAB, so that two labs (CULVERT_LAB=other) stand side by side on one machine.

LAB=${CULVERT_LAB:-culvert}
LAB_STATE=/run/$LAB-lab
LAB_BPFFS=$LAB_STATE/bpf
LAB_NODES="a b"
LAB_WORKLOADS="w1 w2 w3 w4"
LAB_OWN_NETNS="w3 w4"
LAB_LINK=mesh0
LAB_TRUST_DOMAIN=lab.example
LAB_NAMESPACE=shop
LAB_METRICS_PORT=15020
LAB_READINESS_PORT=15021
LAB_TUNNEL_PORT=15008

# What the workloads of node b serve: service, last byte of its virtual addresses, port, workload, target port.
# w1 and w2 share the node's address, so their ports are declared; w3 and w4 have addresses of their own.
LAB_SERVICES="
web       10    80 w1 8080
redis     11  6379 w2 6379
postgres  12  5432 w2 5432
banner    13  2525 w2 2525
iperf     14  5201 w2 5201
h2        15  8081 w2 8081
echo      16  7000 w2 7000
peer      17  7001 w2 7001
bulk      18  7002 w2 7002
inner-web 19    80 w3 8080
inner     20  7000 w3 7000
idle      21  7007 w2 7007
"

# lab_node_number NODE: a is 1, b is 2.
lab_node_number() { case $1 in a) echo 1 ;; b) echo 2 ;; *) die "no node '$1': a or b" ;; esac }

# lab_address4 and lab_address6: NODE [WORKLOAD], the node's own address where the workload has none.
lab_address4() {
    local number
    number=$(lab_node_number "$1")
    case ${2:-} in w3 | w4) echo "10.77.$number.${2#w}" ;; *) echo "10.77.0.$number" ;; esac
}
lab_address6() {
    local number
    number=$(lab_node_number "$1")
    case ${2:-} in w3 | w4) echo "fd77:0:0:$number::${2#w}" ;; *) echo "fd77::$number" ;; esac
}

# lab_addresses NODE [WORKLOAD]: as a YAML list, of the families this lab has.
lab_addresses() {
    local list
    list="\"$(lab_address6 "$@")\""
    lab_is_ipv6_only || list="$(lab_address4 "$@"), $list"
    echo "[$list]"
}

lab_virtual4() { echo "10.96.0.$1"; }
lab_virtual6() { echo "fd96::$1"; }

# lab_netns NODE [WORKLOAD]: the network namespace's name.
lab_netns() { case ${2:-} in w3 | w4) echo "$LAB-$1-$2" ;; *) echo "$LAB-$1" ;; esac }

lab_is_ipv6_only() { [ "$(lab_option ip)" = 6 ]; }
lab_is_plain() { [ "$(lab_option mesh)" = no ]; }

# lab_option NAME [VALUE]: what `up` was asked for, kept with the lab.
lab_option() {
    local file=$LAB_STATE/options/$1
    if [ $# -gt 1 ]; then
        mkdir -p "$LAB_STATE/options"
        printf '%s\n' "$2" >"$file"
    elif [ -f "$file" ]; then
        cat "$file"
    fi
}
