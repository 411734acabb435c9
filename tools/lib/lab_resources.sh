# shellcheck shell=bash
# What the lab's meshd are told: configuration, the resource files (Node, Workload, Service) and the certificates. Both
# nodes get a directory of their own, so that tests can make them disagree.

lab_service_account() { echo "$1-$2"; }
lab_principal() { echo "spiffe://$LAB_TRUST_DOMAIN/ns/$LAB_NAMESPACE/sa/$(lab_service_account "$1" "$2")"; }

lab_config_write() {
    local node=$1 directory=$LAB_STATE/$1
    mkdir -p "$directory"/{resources,certificates,run,state,log}
    cat >"$directory/meshd.yaml" <<YAML
node: $node
trustDomain: $LAB_TRUST_DOMAIN
cgroupRoot: $(lab_cgroup "$node")
bpffs: $LAB_BPFFS
runtimeDirectory: $directory/run
stateDirectory: $directory/state
resources: $directory/resources
certificates: $directory/certificates
admin:
  group: root
metrics:
  address: "[::]:$LAB_METRICS_PORT"
readiness:
  address: "[::]:$LAB_READINESS_PORT"
proxy:
  user: nobody
YAML
    [ -z "${LAB_LOOPS:-}" ] || printf '  loops: %s\n' "$LAB_LOOPS" >>"$directory/meshd.yaml"
}

lab_resources_write() {
    local directory=$1 node workload
    for node in $LAB_NODES; do
        cat <<YAML
kind: Node
metadata: {name: $node}
spec: {tunnelAddresses: $(lab_addresses "$node")}
---
YAML
    done >"$directory/nodes.yaml"
    for node in $LAB_NODES; do
        for workload in $LAB_WORKLOADS; do lab_workload_resource "$node" "$workload"; done
    done >"$directory/workloads.yaml"
    lab_service_resources >"$directory/services.yaml"
}

lab_workload_resource() {
    local node=$1 workload=$2 selector="cgroup: workloads/$2"
    case " $LAB_OWN_NETNS " in *" $workload "*) selector+=", networkNamespace: $(lab_netns "$node" "$workload")" ;; esac
    cat <<YAML
kind: Workload
metadata: {name: $node-$workload, namespace: $LAB_NAMESPACE, labels: {app: $node-$workload}}
spec:
  serviceAccount: $(lab_service_account "$node" "$workload")
  node: $node
  selector: {$selector}
  addresses: $(lab_addresses "$node" "$workload")
  ports: [$(lab_workload_ports "$workload")]
---
YAML
}

# The ports that the workloads of that name serve, on either node: same-node tests use node a's.
lab_workload_ports() {
    awk -v workload="$1" '$4 == workload { printf "%s%s", separator, $5; separator = ", " }' <<<"$LAB_SERVICES"
}

lab_service_resources() {
    local service number port workload target addresses
    while read -r service number port workload target; do
        [ -n "$service" ] || continue
        addresses="\"$(lab_virtual6 "$number")\""
        lab_is_ipv6_only || addresses="$(lab_virtual4 "$number"), $addresses"
        cat <<YAML
kind: Service
metadata: {name: $service, namespace: $LAB_NAMESPACE}
spec:
  virtualAddresses: [$addresses]
  ports: [{port: $port, targetPort: $target}]
  selector: {app: b-$workload}
---
YAML
    done <<<"$LAB_SERVICES"
}

# The workloads' /etc/hosts: names of services and nodes, without touching the machine's file. Without the mesh the
# services' names are their endpoints' addresses.
lab_hosts_write() {
    local service number port workload target node
    {
        printf '127.0.0.1 localhost\n::1 localhost\n'
        while read -r service number port workload target; do
            [ -n "$service" ] || continue
            if lab_is_plain; then
                lab_hosts_entry "$service" "$(lab_address4 b "$workload")" "$(lab_address6 b "$workload")"
            else
                lab_hosts_entry "$service" "$(lab_virtual4 "$number")" "$(lab_virtual6 "$number")"
            fi
        done <<<"$LAB_SERVICES"
        for node in $LAB_NODES; do lab_hosts_entry "node-$node" "$(lab_address4 "$node")" "$(lab_address6 "$node")"; done
    } >"$LAB_STATE/hosts"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$LAB_STATE/hosts-local"
}

lab_hosts_entry() {
    lab_is_ipv6_only || printf '%s %s\n' "$2" "$1"
    printf '%s %s\n' "$3" "$1"
}

# One authority for both nodes; each node gets the certificates of its own workloads and no other key.
lab_certificates_issue() {
    local node workload
    "$MESHCTL" ca init --directory "$LAB_STATE/ca" --trust-domain "$LAB_TRUST_DOMAIN" >/dev/null
    for node in $LAB_NODES; do
        cp "$LAB_STATE/ca/ca.pem" "$LAB_STATE/$node/certificates/ca.pem"
        for workload in $LAB_WORKLOADS; do
            lab_certificate "$LAB_STATE/ca" "$LAB_STATE/$node/certificates" "$(lab_service_account "$node" "$workload")"
        done
    done
}

# lab_certificate AUTHORITY CERTIFICATES ACCOUNT [ARGUMENT…]
lab_certificate() {
    "$MESHCTL" ca issue --directory "$1" --output "$2" --namespace "$LAB_NAMESPACE" --service-account "$3" "${@:4}" >/dev/null
}
