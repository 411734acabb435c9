# shellcheck shell=bash
# Proofs about capture and about what is on the wire between the nodes.

proof_unchanged_applications() {
    local before answer
    before=$(metric a '^istio_tcp_connections_opened_total\{.*reporter="source"')
    answer=$(lab_in a w1 curl -sS -m 10 "$(lab_web_url)" 2>&1)
    expect "curl's answer from nginx" "$answer" "Hello from web on node b." || return 1
    wait_for 5 metric_exceeds a '^istio_tcp_connections_opened_total\{.*reporter="source"' "$before" ||
        { echo "the connection is not counted: it was not captured" && return 1; }
    lab_in a w1 wrk -t1 -c4 -d1s "$(lab_web_url)ok" >"$PROOFS/wrk" 2>&1 || { cat "$PROOFS/wrk" && return 1; }
    ! grep -E 'Socket errors|Non-2xx' "$PROOFS/wrk"
}

metric_exceeds() { [ "$(metric "$1" "$2")" -gt "$3" ]; }

# capture FILE COMMAND…: what passes the link between the nodes while the command runs.
capture() {
    local file=$1
    shift
    process_start capture "$PROOFS/capture.log" nsenter --net="/run/netns/$(lab_netns b)" -- \
        tcpdump -i "$LAB_LINK" -w "$file" -U --immediate-mode -B 16384 -s 0 tcp
    wait_for 10 grep -q 'listening on' "$PROOFS/capture.log" || { cat "$PROOFS/capture.log" && return 1; }
    "$@"
    sleep 0.5
    process_end capture
    rm -f "$PROOFS/capture.log"
}

marked_request() { # WORKLOAD URL: request line and body carry the marker
    printf 'secret-body-%s' "$MARKER" | lab_in a "$1" curl -s -m 10 -o /dev/null --data-binary @- "$2secret-path-$MARKER"
}

# The same search must find the marker in a request outside the mesh: else it could find nothing at all.
proof_nothing_readable() {
    local MARKER open_url
    MARKER=$(openssl rand -hex 8)
    open_url="http://[$(lab_address6 b)]:8099/"
    lab_start open-server b none /usr/bin/python3 -m http.server 8099 --bind ::
    wait_for 10 lab_in a none curl -s -m 5 -o /dev/null "$open_url" || { echo "no server outside the mesh" && return 1; }
    capture "$PROOFS/open.pcap" marked_request none "$open_url" || return 1
    process_end open-server
    [ "$(grep -caE "secret-(path|body)-$MARKER" "$PROOFS/open.pcap")" -ge 1 ] ||
        { echo "the control failed: the capture shows not even a plain request" && return 1; }
    MARKER=$(openssl rand -hex 8)
    capture "$PROOFS/mesh.pcap" marked_request w1 "$(lab_web_url)" || return 1
    [ "$(stat -c %s "$PROOFS/mesh.pcap")" -gt 500 ] || { echo "nothing passed between the nodes" && return 1; }
    ! grep -caE "secret-(path|body)-$MARKER|GET /|POST /|HTTP/1" "$PROOFS/mesh.pcap" ||
        { echo "the request is readable on the wire" && return 1; }
    tail -n 20 "$LAB_STATE/b/web/logs/access.log" | grep -q "secret-path-$MARKER" ||
        { echo "nginx did not get the request" && return 1; }
}

proof_tls13_both_certificates() {
    local answer
    lab_leaf client "$(lab_principal a w1)"
    answer=$(request_as a client "$(lab_principal b w1)" "$(authority_of b w1 8080)" --say 'GET /ok HTTP/1.0\r\n\r\n')
    expect "the protocol" "$(json .tls <<<"$answer")" TLSv1.3 || return 1
    expect "the server's principal" "$(json .server <<<"$answer")" "$(lab_principal b w1)" || return 1
    expect "the answer's status" "$(json .status <<<"$answer")" 200 || return 1
    answer=$(request_as a client "$(lab_principal b w1)" "$(authority_of b w1 8080)" --tls 1.2)
    expect "TLS 1.2" "$(json .tls <<<"$answer")" null || return 1
    lab_in a w1 curl -s -m 10 -o /dev/null "$(lab_web_url)ok"
    answer=$("$MESHCTL" --socket "$LAB_STATE/b/run/admin.sock" flows -o json | jq -rs 'last(.[] | select(.destination_principal == "'"$(lab_principal b w1)"'") | .source_principal)')
    expect "the client that node b saw in its certificate" "$answer" "$(lab_principal a w1)"
}

authority_of() { if lab_is_ipv6_only; then echo "[$(lab_address6 "$1" "$2")]:$3"; else echo "$(lab_address4 "$1" "$2"):$3"; fi; }

proof_one_tunnel_for_many() {
    local many=200 opened
    traffic many 2 >/dev/null || return 1
    capture "$PROOFS/many.pcap" traffic many "$many" >"$PROOFS/many" || return 1
    expect "connections that worked" "$(json .answered <"$PROOFS/many")" "$many" || return 1
    opened=$(tcpdump -nr "$PROOFS/many.pcap" 'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn or (ip6 and ip6[6] == 6 and ip6[53] & 0x12 == 2)' 2>/dev/null | wc -l)
    [ "$opened" -le 1 ] || { echo "$many application connections opened $opened TLS connections" && return 1; }
    [ "$(in_netns "$(lab_netns a)" ss -tnH state established "( dport = :$LAB_TUNNEL_PORT )" | wc -l)" -ge 1 ] ||
        { echo "no tunnel is established" && return 1; }
}

proof_real_client_address() {
    local workload answer
    for workload in w1 w3; do
        answer=$(lab_in a "$workload" curl -s -m 10 "$(lab_web_url)remote")
        case $answer in
        "$(lab_address4 a "$workload")" | "$(lab_address6 a "$workload")") ;;
        *) echo "nginx saw ${answer:-nothing} for a client at $(lab_addresses a "$workload")" && return 1 ;;
        esac
    done
}

proof_peer_and_own_names() {
    local answer family dialled own
    for family in 4 6; do
        [ "$family" = 6 ] || ! lab_is_ipv6_only || continue
        dialled=$("lab_virtual$family" 16)
        own=$("lab_address$family" a)
        answer=$(lab_in a w1 /usr/bin/python3 "$APPLICATIONS/traffic_client.py" "$dialled" 7000 addresses) || return 1
        expect "getpeername()" "$(json '.getpeername | "\(.address) \(.port)"' <<<"$answer")" "$dialled 7000" || return 1
        expect "getsockname()" "$(json .getsockname.address <<<"$answer")" "$own" || return 1
        expect "what the server accepted" "$(json .server.accepted.address <<<"$answer")" "$own" || return 1
    done
}
