# shellcheck shell=bash
# Ground for the demo's proofs: a working directory, counters of /metrics before and after, certificates that a peer
# should not have, the test applications. A proof is a function that prints why it does not hold and returns 1.

: "${ROOT:?set by the tool that sources this: the top of the tree}"
APPLICATIONS=$ROOT/Tests/Applications

proofs_begin() {
    # In the lab, so that it goes with it, also after a demo that was killed.
    PROOFS=$LAB_STATE/proofs
    mkdir -m 755 "$PROOFS"
    lab_start traffic-server b w2 /usr/bin/python3 "$APPLICATIONS/traffic_server.py" 7000
    lab_start traffic-server-inner b w3 /usr/bin/python3 "$APPLICATIONS/traffic_server.py" 7000
    wait_for 10 traffic ping-pong 1 || die "the traffic server does not answer through the mesh"
}

# traffic VERB [ARGUMENT…]: the traffic client as workload w1 of node a against service echo; prints JSON.
traffic() { lab_in a w1 /usr/bin/python3 "$APPLICATIONS/traffic_client.py" echo 7000 "$@"; }

# expect WHAT ACTUAL EXPECTED
expect() {
    [ "$2" = "$3" ] || {
        printf '%s is %s, not %s\n' "$1" "${2:-nothing}" "$3"
        return 1
    }
}

# metric NODE PATTERN: sum of the values of all series that match the extended regular expression.
metric() {
    in_netns "$(lab_netns "$1")" curl -sf -m 5 "http://[::1]:$LAB_METRICS_PORT/metrics" |
        awk -v pattern="$2" '!/^#/ && $0 ~ pattern { sum += $NF } END { printf "%.0f\n", sum }'
}

# refusals NODE REASON: how often the node refused for that reason.
refusals() { metric "$1" "^meshd_[a-z_]*total\\{.*reason=\"$2\""; }

# counts NODE REASON COMMAND…: the command must raise the counter; says what it is otherwise.
counts() {
    local node=$1 reason=$2 before
    shift 2
    before=$(refusals "$node" "$reason")
    "$@" || return 1
    wait_for 10 counted_since "$node" "$reason" "$before" || {
        printf 'node %s counts no %s (%s before and after)\n' "$node" "$reason" "$before"
        return 1
    }
}

counted_since() { [ "$(refusals "$1" "$2")" -gt "$3" ]; }

# authority NAME: a certificate authority that the lab does not trust.
authority() {
    [ -f "$PROOFS/$1.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
        -keyout "$PROOFS/$1-key.pem" -out "$PROOFS/$1.pem" -addext 'keyUsage=critical,keyCertSign' 2>/dev/null
}

# leaf NAME URI CA CA-KEY [DAYS]: $PROOFS/NAME.pem and NAME-key.pem with that one URI.
leaf() {
    local name=$PROOFS/$1
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout "$name-key.pem" -out "$name.csr" 2>/dev/null
    printf 'subjectAltName=critical,URI:%s\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n' \
        "$2" >"$name.extensions"
    openssl x509 -req -in "$name.csr" -CA "$3" -CAkey "$4" -CAcreateserial -CAserial "$PROOFS/serial" -days "${5:-2}" \
        -extfile "$name.extensions" -out "$name.pem" 2>/dev/null
}

# A leaf of the lab's own authority.
lab_leaf() { leaf "$1" "$2" "$LAB_STATE/ca/ca.pem" "$LAB_STATE/ca/ca-key.pem" "${@:3}"; }

# peer NODE ARGUMENT…: the tunnel peer of Tests/Applications in the node's network namespace, not meshed; JSON.
peer() { lab_in "$1" none /usr/bin/python3 "$APPLICATIONS/hbone_peer.py" "${@:2}"; }

# request_as NODE CERTIFICATE-NAME SERVER-PRINCIPAL AUTHORITY [ARGUMENT…]: a CONNECT to node b's tunnel port.
request_as() {
    peer "$1" request --to "[$(lab_address6 b)]:$LAB_TUNNEL_PORT" --certificate "$PROOFS/$2.pem" --key "$PROOFS/$2-key.pem" \
        --trust "$LAB_STATE/ca/ca.pem" --principal "$3" --authority "$4" "${@:5}"
}

# json FILTER: one value of the JSON on standard input.
json() { jq -r "$1"; }
