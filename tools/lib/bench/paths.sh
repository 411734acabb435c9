# shellcheck shell=bash
# The paths that are compared: direct TCP, Culvert and Envoy, each from node a to the same applications on node b; haproxy
# as another TLS server on node b. Every process stands in a cgroup of the lab, so its CPU is known exactly, ends with it,
# and is told from other load.

BENCH_BULK_PORT=7002
BENCH_WEB_PORT=7000
BENCH_IDLE_PORT=7007
BENCH_ENVOY_PORT=15108
BENCH_HAPROXY_PORT=15208
# Envoy's listeners on node a: this much above the application's port.
BENCH_ENVOY_OFFSET=12000

bench_applications_start() {
    BENCH_BIN=$LAB_STATE/bench
    mkdir -p "$BENCH_BIN"
    cc -O2 -o "$BENCH_BIN/load" "$ROOT/tools/lib/bench/load.c"
    cc -O2 -o "$BENCH_BIN/handshakes" "$ROOT/tools/lib/bench/handshakes.c" -lssl -lcrypto
    chmod -R a+rX "$BENCH_BIN"
    bench_pins
    bench_nginx_configure bench "$BENCH_WEB_PORT"
    bench_let_plaintext_in
    lab_start bench-web b w2 taskset -c "$PIN_APPLICATION" nginx -p "$LAB_STATE/web-bench" -c "$LAB_STATE/web-bench/nginx.conf"
    lab_start bench-bulk b w2 taskset -c "$PIN_APPLICATION" "$BENCH_BIN/load" serve "$BENCH_BULK_PORT"
    bench_pin_culvert
}

# Direct TCP and Envoy's far end come in plain text, which the mesh refuses unless it is declared.
bench_let_plaintext_in() {
    local node port exempt=''
    for node in a b; do
        for port in "$BENCH_WEB_PORT" "$BENCH_BULK_PORT" "$BENCH_IDLE_PORT"; do
            exempt+="${exempt:+, }{source: $(lab_address4 "$node"), port: $port}"
        done
    done
    cat >"$LAB_STATE/b/resources/bench.yaml" <<YAML
kind: PeerAuthentication
metadata: {name: bench, namespace: $LAB_NAMESPACE}
spec:
  selector: {matchLabels: {app: b-w2}}
  exempt: [$exempt]
YAML
}

# bench_nginx_configure NAME PORT: one worker that serves /1KiB, configured in LAB_STATE/web-NAME.
bench_nginx_configure() {
    local prefix=$LAB_STATE/web-$1
    mkdir -p "$prefix"/{html,logs,temporary}
    head -c 1024 /dev/zero | tr '\0' 'x' >"$prefix/html/1KiB"
    cat >"$prefix/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $prefix/nginx.pid;
error_log $prefix/logs/error.log warn;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $prefix/temporary/body;
    proxy_temp_path $prefix/temporary/proxy;
    fastcgi_temp_path $prefix/temporary/fastcgi;
    uwsgi_temp_path $prefix/temporary/uwsgi;
    scgi_temp_path $prefix/temporary/scgi;
    keepalive_requests 100000000;
    server {
        listen $2 backlog=4096;
        root $prefix/html;
        open_file_cache max=16;
    }
}
CONF
}

# The load, the proxy beside it, the proxy at the other end and the application have a processor each where there are four;
# with less, each node has half of them.
bench_pins() {
    local count half
    count=$(nproc)
    half=$((count / 2))
    if [ "$count" -ge 4 ]; then
        PIN_LOAD=0 PIN_CLIENT=1 PIN_SERVER=2 PIN_APPLICATION=3
        [ "$BENCH_THREADS" -eq 1 ] || [ "$count" -lt 6 ] || PIN_CLIENT=1,2 PIN_SERVER=3,4 PIN_APPLICATION=5
    elif [ "$count" -ge 2 ]; then
        PIN_LOAD=0-$((half - 1)) PIN_CLIENT=0-$((half - 1)) PIN_SERVER=$half-$((count - 1)) PIN_APPLICATION=$half-$((count - 1))
    else
        PIN_LOAD=0 PIN_CLIENT=0 PIN_SERVER=0 PIN_APPLICATION=0
    fi
}

bench_pin_culvert() {
    local node pid
    for node in $LAB_NODES; do
        while read -r pid; do
            taskset -acp "$([ "$node" = a ] && echo "$PIN_CLIENT" || echo "$PIN_SERVER")" "$pid" >/dev/null
        done <"$(lab_cgroup "$node")/culvert/proxy/cgroup.procs"
    done
}

# bench_process NAME NODE COMMAND…: in cgroup NAME of the lab, in the node's network namespace, not meshed.
bench_process() {
    local name=$1 cgroup netns
    cgroup=$(lab_cgroup_root)/$1
    netns=/run/netns/$(lab_netns "$2")
    mkdir -p "$cgroup"
    process_start "$name" "$LAB_STATE/log/$name.log" \
        sh -c 'echo $$ >"$1/cgroup.procs" && ulimit -n "$(ulimit -Hn)" && shift && exec nsenter --net="$@"' sh "$cgroup" "$netns" -- "${@:3}"
}

# bench_certificate NODE WORKLOAD: sets certificate, key and authority to the files of that identity.
bench_certificate() {
    local base=$LAB_STATE/$1/certificates directory
    directory=$base/$LAB_NAMESPACE/$(lab_service_account "$1" "$2")
    certificate=$directory/chain.pem key=$directory/key.pem authority=$base/ca.pem
}

# --- Envoy as HBONE client and server: one tunnel, one CONNECT a connection, as SPEED's closest peer

bench_envoy_start() {
    local binary
    binary=$(packages_envoy)
    # shellcheck disable=SC2034 # for rows.sh
    BENCH_ENVOY_VERSION=$("$binary" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)
    bench_envoy_client >"$LAB_STATE/bench/envoy-a.yaml"
    bench_envoy_server >"$LAB_STATE/bench/envoy-b.yaml"
    bench_process envoy-b b taskset -c "$PIN_SERVER" "$binary" -c "$LAB_STATE/bench/envoy-b.yaml" --concurrency "$BENCH_THREADS" \
        --base-id 7702 --log-level warning
    bench_process envoy-a a taskset -c "$PIN_CLIENT" "$binary" -c "$LAB_STATE/bench/envoy-a.yaml" --concurrency "$BENCH_THREADS" \
        --base-id 7701 --log-level warning
    wait_for 30 lab_in a none curl -sf -m 2 -o /dev/null "http://127.0.0.1:$((BENCH_ENVOY_OFFSET + BENCH_WEB_PORT))/1KiB" ||
        die "nothing answers through Envoy: $(tail -n 3 "$LAB_STATE"/log/envoy-*.log)"
}

bench_envoy_client() {
    local port certificate key authority
    bench_certificate a w1
    echo "static_resources:"
    echo "  listeners:"
    for port in $BENCH_BULK_PORT $BENCH_WEB_PORT $BENCH_IDLE_PORT; do
        cat <<YAML
    - name: "to-$port"
      address: {socket_address: {address: "127.0.0.1", port_value: $((BENCH_ENVOY_OFFSET + port))}}
      filter_chains:
        - filters:
            - name: tcp
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                stat_prefix: outbound
                cluster: tunnel
                idle_timeout: 0s
                tunneling_config: {hostname: "$(lab_address4 b):$port"}
YAML
    done
    cat <<YAML
  clusters:
    - name: tunnel
      type: STATIC
      connect_timeout: 5s
      circuit_breakers: {thresholds: [{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000}]}
      load_assignment:
        cluster_name: tunnel
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "$(lab_address4 b)", port_value: $BENCH_ENVOY_PORT}}}}]}]
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {allow_connect: true}}
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          max_session_keys: 0
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
            tls_certificates: [{certificate_chain: {filename: "$certificate"}, private_key: {filename: "$key"}}]
            validation_context:
              trusted_ca: {filename: "$authority"}
              match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "$(lab_principal b w2)"}}]
YAML
}

bench_envoy_server() {
    local port certificate key authority
    bench_certificate b w2
    cat <<YAML
static_resources:
  listeners:
    - name: inbound
      address: {socket_address: {address: "$(lab_address4 b)", port_value: $BENCH_ENVOY_PORT}}
      filter_chains:
        - filters:
            - name: http
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: inbound
                stream_idle_timeout: 0s
                http2_protocol_options: {allow_connect: true}
                upgrade_configs: [{upgrade_type: CONNECT}]
                http_filters:
                  - name: router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
YAML
    for port in $BENCH_BULK_PORT $BENCH_WEB_PORT $BENCH_IDLE_PORT; do
        cat <<YAML
                    - name: "to-$port"
                      domains: ["$(lab_address4 b):$port"]
                      routes:
                        - match: {connect_matcher: {}}
                          route: {cluster: "application-$port", timeout: 0s, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}
YAML
    done
    cat <<YAML
          transport_socket:
            name: tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: true
              disable_stateless_session_resumption: true
              common_tls_context:
                alpn_protocols: [h2]
                tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
                tls_certificates: [{certificate_chain: {filename: "$certificate"}, private_key: {filename: "$key"}}]
                validation_context:
                  trusted_ca: {filename: "$authority"}
                  match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "$(lab_principal a w1)"}}]
  clusters:
YAML
    for port in $BENCH_BULK_PORT $BENCH_WEB_PORT $BENCH_IDLE_PORT; do
        cat <<YAML
    - name: "application-$port"
      type: STATIC
      connect_timeout: 5s
      circuit_breakers: {thresholds: [{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000}]}
      load_assignment:
        cluster_name: "application-$port"
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "$(lab_address4 b)", port_value: $port}}}}]}]
YAML
    done
}

# --- haproxy, for handshakes: the same OpenSSL as ours

bench_haproxy_start() {
    local certificate key authority
    bench_certificate b w2
    cat "$certificate" "$key" >"$LAB_STATE/bench/haproxy.pem"
    cat >"$LAB_STATE/bench/haproxy.cfg" <<CONF
global
    nbthread $BENCH_THREADS
    maxconn 4000
    tune.ssl.cachesize 0
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
frontend handshakes
    bind $(lab_address4 b):$BENCH_HAPROXY_PORT ssl crt $LAB_STATE/bench/haproxy.pem ca-file $authority verify required alpn h2 ssl-min-ver TLSv1.3 no-tls-tickets curves X25519 ciphersuites TLS_AES_128_GCM_SHA256
    http-request return status 200
CONF
    bench_process haproxy b taskset -c "$PIN_SERVER" haproxy -db -f "$LAB_STATE/bench/haproxy.cfg"
}

# --- where a load goes, and who pays

# bench_load PATH COMMAND…: runs it on node a as what that path starts from.
bench_load() {
    local path=$1 workload=none
    shift
    case $path in
    culvert | near) workload=w1 ;;
    plain)
        (echo "$BASHPID" >"$(lab_cgroup_root)/plain-load/cgroup.procs" && in_netns "$(lab_netns a)" taskset -c "$PIN_LOAD" "$@")
        return
        ;;
    esac
    lab_in a "$workload" taskset -c "$PIN_LOAD" "$@"
}

# bench_host PATH SERVICE-NUMBER and bench_port PATH PORT
bench_host() {
    case $1 in
    direct) lab_address4 b ;;
    culvert) lab_virtual4 "$2" ;;
    envoy) echo 127.0.0.1 ;;
    plain | near) lab_address4 a ;;
    esac
}
bench_port() {
    case $1 in
    envoy) echo $((BENCH_ENVOY_OFFSET + $2)) ;;
    plain) echo $((BENCH_PLAIN_OFFSET + $2)) ;;
    *) echo "$2" ;;
    esac
}
bench_web() { echo "http://$(bench_host "$1" 16):$(bench_port "$1" "$BENCH_WEB_PORT")/1KiB"; }

# bench_cpu PATH [NODE]: CPU microseconds of the path's proxies so far; of the two paths inside a node, of all processes.
bench_cpu() {
    local node list=()
    for node in ${2:-a b}; do
        case $1 in
        culvert) list+=("$(lab_cgroup "$node")/culvert/proxy/cpu.stat") ;;
        envoy) list+=("$(lab_cgroup_root)/envoy-$node/cpu.stat") ;;
        haproxy) list+=("$(lab_cgroup_root)/haproxy/cpu.stat") ;;
        esac
    done
    case $1 in
    near) list+=("$(lab_cgroup a w1)/cpu.stat" "$(lab_cgroup a w2)/cpu.stat" "$(lab_cgroup a)/culvert/proxy/cpu.stat") ;;
    plain) list+=("$(lab_cgroup_root)"/plain-{load,web,bulk}/cpu.stat) ;;
    esac
    [ ${#list[@]} -gt 0 ] || { echo 0 && return; }
    awk '/^usage_usec/ { sum += $2 } END { print sum }' "${list[@]}"
}
