# shellcheck shell=bash
# Proofs that a peer without the right to be here is refused with a named reason, and counted.

refused() { # ANSWER: JSON of a request that must not have come through
    [ "$(json .status <<<"$1")" != 200 ] || { echo "the request was answered with 200" && return 1; }
}

web_at_b() { authority_of b w1 8080; }

proof_refuses_no_certificate() { counts b no_client_certificate peer_without_certificate; }
peer_without_certificate() {
    refused "$(peer a request --to "[$(lab_address6 b)]:$LAB_TUNNEL_PORT" --principal "$(lab_principal b w1)" --authority "$(web_at_b)")"
}

proof_refuses_other_trust_domain() { counts b trust_domain_mismatch peer_of_other_trust_domain; }
peer_of_other_trust_domain() {
    lab_leaf foreigner "spiffe://other.example/ns/$LAB_NAMESPACE/sa/a-w1"
    refused "$(request_as a foreigner "$(lab_principal b w1)" "$(web_at_b)")"
}

proof_refuses_other_authority() { counts b certificate_invalid peer_of_other_authority; }
peer_of_other_authority() {
    authority other-authority
    leaf pretender "$(lab_principal a w1)" "$PROOFS/other-authority.pem" "$PROOFS/other-authority-key.pem"
    refused "$(request_as a pretender "$(lab_principal b w1)" "$(web_at_b)")"
}

proof_refuses_unknown_principal() { counts b principal_unknown peer_of_unknown_principal; }
peer_of_unknown_principal() {
    lab_leaf stranger "spiffe://$LAB_TRUST_DOMAIN/ns/$LAB_NAMESPACE/sa/stranger"
    refused "$(request_as a stranger "$(lab_principal b w1)" "$(web_at_b)")"
}

proof_refuses_principal_of_other_node() { counts b principal_not_on_node peer_of_other_node; }
peer_of_other_node() {
    lab_leaf elsewhere "$(lab_principal b w2)"
    refused "$(request_as a elsewhere "$(lab_principal b w1)" "$(web_at_b)")"
}

proof_refuses_authority_of_other_principal() { counts b authority_principal_mismatch peer_with_wrong_authority; }
peer_with_wrong_authority() {
    lab_leaf client "$(lab_principal a w1)"
    refused "$(request_as a client "$(lab_principal b w1)" "$(authority_of b w2 7000)")"
}

proof_refuses_plain_bytes() { counts b plaintext_on_tunnel_port peer_in_plain_text; }
peer_in_plain_text() {
    local answer
    answer=$(peer a plain --to "[$(lab_address6 b)]:$LAB_TUNNEL_PORT" --say 'GET / HTTP/1.1\r\nHost: web\r\n\r\n')
    ! grep -q '"data": "HTTP' <<<"$answer" || { echo "plain HTTP was answered: $answer" && return 1; }
}

# A node that the snapshot knows, at an address where something else answers with another workload's certificate.
proof_refuses_wrong_server_certificate() {
    local status=0
    lab_leaf impostor "$(lab_principal b w2)"
    impostor_start || return 1
    counts a server_principal_mismatch call_impostor || status=1
    impostor_stop
    return "$status"
}

call_impostor() {
    local answer
    for _ in $(seq 50); do
        answer=$(lab_in a w1 curl -s -m 10 "http://$(impostor_authority)/" 2>/dev/null)
        [ -z "$answer" ] || { echo "the impostor's answer came through: $answer" && return 1; }
        [ "$(refusals a server_principal_mismatch)" -eq 0 ] || return 0
        sleep 0.2
    done
}

impostor_address() { if lab_is_ipv6_only; then echo fd77::3; else echo 10.77.0.3; fi; }
impostor_authority() { if lab_is_ipv6_only; then echo "[fd77::3]:9000"; else echo 10.77.0.3:9000; fi; }

impostor_start() {
    local address bound
    address=$(impostor_address)
    bound=$address
    ! lab_is_ipv6_only || bound="[$address]"
    ip -n "$(lab_netns b)" address add "$address/$(lab_is_ipv6_only && echo 128 || echo 32)" dev "$LAB_LINK" 2>/dev/null
    lab_start impostor b none /usr/bin/python3 "$APPLICATIONS/hbone_peer.py" serve --at "$bound:$LAB_TUNNEL_PORT" \
        --certificate "$PROOFS/impostor.pem" --key "$PROOFS/impostor-key.pem" --trust "$LAB_STATE/ca/ca.pem"
    wait_for 10 grep -q listening "$LAB_STATE/log/impostor.log" || { cat "$LAB_STATE/log/impostor.log" && return 1; }
    cat >"$PROOFS/impostor.yaml" <<YAML
kind: Node
metadata: {name: c}
spec: {tunnelAddresses: ["$address"]}
---
kind: Workload
metadata: {name: c-w1, namespace: $LAB_NAMESPACE, labels: {app: c-w1}}
spec:
  serviceAccount: c-w1
  node: c
  selector: {cgroup: workloads/w1}
  addresses: ["$address"]
  ports: [9000]
YAML
    mv "$PROOFS/impostor.yaml" "$LAB_STATE/a/resources/impostor.yaml"
}

impostor_stop() {
    rm -f "$LAB_STATE/a/resources/impostor.yaml"
    process_end impostor
    ip -n "$(lab_netns b)" address del "$(impostor_address)/$(lab_is_ipv6_only && echo 128 || echo 32)" dev "$LAB_LINK"
}
