# shellcheck shell=bash
# Proofs that what is shown is what was: bytes in the flow table, /metrics, a real Prometheus.

# After an orderly close both nodes must show exactly the bytes that the applications sent and received.
proof_bytes_to_the_byte() {
    local count=1234567 sent received node flow
    sent=$((${#count} + 8)) # "source 1234567\n"
    received=$count
    expect "bytes of the download" "$(traffic download "$count" | json .bytes)" "$count" || return 1
    for node in $LAB_NODES; do
        wait_for 10 flow_with_bytes "$node" "$sent" "$received" || {
            flow=$("$MESHCTL" --socket "$LAB_STATE/$node/run/admin.sock" flows -o json |
                jq -rs 'last | "\(.bytes_sent) sent, \(.bytes_received) received, \(.state)"')
            echo "node $node has no flow of $sent bytes sent and $received received; its last one: $flow"
            return 1
        }
    done
}

# Bytes are named from the client's side on both nodes.
flow_with_bytes() {
    "$MESHCTL" --socket "$LAB_STATE/$1/run/admin.sock" flows -o json |
        jq -es "any(.[]; .state == \"closed\" and .bytes_sent == $2 and .bytes_received == $3)" >/dev/null
}

proof_promtool() {
    local node
    for node in $LAB_NODES; do
        in_netns "$(lab_netns "$node")" curl -sf -m 5 "http://[::1]:$LAB_METRICS_PORT/metrics" >"$PROOFS/metrics-$node" ||
            { echo "node $node serves no /metrics" && return 1; }
        [ -s "$PROOFS/metrics-$node" ] || { echo "/metrics of node $node is empty" && return 1; }
        promtool check metrics <"$PROOFS/metrics-$node" || return 1
    done
}

proof_prometheus() {
    local directory=$PROOFS/prometheus status=0
    mkdir -p "$directory"
    cat >"$directory/prometheus.yml" <<YAML
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: culvert
    static_configs:
      - targets: ["[$(lab_address6 a)]:$LAB_METRICS_PORT", "[$(lab_address6 b)]:$LAB_METRICS_PORT"]
YAML
    process_start prometheus "$directory/log" nsenter --net="/run/netns/$(lab_netns a)" -- prometheus \
        --config.file="$directory/prometheus.yml" --storage.tsdb.path="$directory/data" --web.listen-address=127.0.0.1:9090
    wait_for 30 prometheus_says 'count(up{job="culvert"} == 1)' 2 || { echo "Prometheus does not find both nodes up" && status=1; }
    [ "$status" -ne 0 ] || wait_for 10 prometheus_says 'min(sum by (instance) (istio_tcp_sent_bytes_total) > bool 0)' 1 ||
        { echo "Prometheus has no istio_tcp_sent_bytes_total from both nodes" && status=1; }
    process_end prometheus
    return "$status"
}

# prometheus_says QUERY VALUE
prometheus_says() {
    [ "$(in_netns "$(lab_netns a)" curl -sf -m 5 -G http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" |
        json '.data.result[0].value[1] // "none"')" = "$2" ]
}
