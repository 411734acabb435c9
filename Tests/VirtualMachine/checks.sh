#!/usr/bin/env bash
# What only a machine with systemd, pure cgroup v2 and Debian's 6.1 kernel shows: the installed services, their limits,
# the watchdog, a reboot, and that --uninstall leaves nothing. Run by `tools/vm run --boots 2`; the product is in
# /in/culvert. The guest is 6 to 8 times slower than its host: every wait is bounded generously.
set -uo pipefail
PRODUCT=/in/culvert
. "$PRODUCT/tools/lib/checks.sh"
COUNTS=/var/lib/culvert-checks
UNITS="meshd.service culvert-proxy@main.service"

# eventually SECONDS COMMAND…
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.5
    done
}

runs_the_oldest_kernel() {
    case $(uname -r) in 6.1.*) ;; *) echo "kernel $(uname -r)" && return 1 ;; esac
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || { echo "cgroup v2 is not alone" && return 1; }
}

installs() {
    bash "$PRODUCT/tools/install" --from "$PRODUCT" --node vm || return 1
    services_are_active
}

services_are_active() {
    local unit
    for unit in $UNITS; do
        eventually 60 systemctl is-active "$unit" || { systemctl status --no-pager "$unit" | tail -n 20 && return 1; }
    done
    eventually 60 curl -sf -o /dev/null http://127.0.0.1:15021/healthz/ready || { echo "meshd is not ready" && return 1; }
}

exposure_is_at_most_four() {
    local unit exposure
    for unit in $UNITS; do
        exposure=$(systemd-analyze security --no-pager "$unit" | sed -nE 's/.*Overall exposure level for .*: ([0-9.]+) .*/\1/p')
        awk -v exposure="${exposure:-10}" 'BEGIN { exit !(exposure <= 4.0) }' || { echo "$unit: $exposure" && return 1; }
    done
}

proxy_is_unprivileged() {
    local pid
    pid=$(systemctl show -P MainPID culvert-proxy@main.service)
    grep -qE '^CapEff:\s+0+$' "/proc/$pid/status" || { grep Cap "/proc/$pid/status" && return 1; }
    grep -qE '^Seccomp:\s+2$' "/proc/$pid/status" || { echo "no seccomp filter" && return 1; }
    grep -qE '^NoNewPrivs:\s+1$' "/proc/$pid/status" || { echo "new privileges are possible" && return 1; }
    [ "$(stat -c %U "/proc/$pid")" = culvert ] || [ "$(ps -o user= -p "$pid")" = culvert ] || { echo "runs as another user" && return 1; }
}

memory_is_limited() {
    local unit
    for unit in $UNITS; do
        [ "$(cat "/sys/fs/cgroup$(systemctl show -P ControlGroup "$unit")/memory.max")" != max ] || { echo "$unit has no limit" && return 1; }
    done
}

# nginx as one unit, curl as another: both workloads of this node, so the connection takes the slow path in the proxy.
workloads_connect() {
    [ -f /etc/culvert/resources/mesh.yaml ] || make_workloads || return 1
    eventually 60 systemctl is-active nginx || { echo "nginx does not run" && return 1; }
    eventually 90 client_reaches_nginx || { echo "no answer: $(client_reaches_nginx 2>&1 | tail -n 1)" && return 1; }
    meshctl flows -o json | grep -q "spiffe://culvert.internal/ns/default/sa/client" || { echo "no flow of the client's principal" && return 1; }
}

client_reaches_nginx() {
    systemd-run --quiet --wait --pipe --collect --unit=client curl -sS -m 20 http://10.96.0.1/ | grep -q nginx
}

make_workloads() {
    local account
    ip link add dummy0 type dummy 2>/dev/null
    ip address replace 10.9.0.1/32 dev dummy0 && ip link set dummy0 up
    meshctl ca init --directory /etc/culvert/ca --trust-domain culvert.internal || return 1
    cp /etc/culvert/ca/ca.pem /etc/culvert/certificates/ca.pem
    for account in client server; do
        meshctl ca issue --directory /etc/culvert/ca --output /etc/culvert/certificates --namespace default \
            --service-account "$account" || return 1
    done
    cat >/etc/culvert/resources/mesh.yaml.new <<'YAML'
kind: Node
metadata: {name: vm}
spec: {tunnelAddresses: [10.9.0.1]}
---
kind: Workload
metadata: {name: server, namespace: default, labels: {app: server}}
spec: {serviceAccount: server, node: vm, selector: {systemdUnit: nginx.service}, addresses: [10.9.0.1], ports: [80]}
---
kind: Workload
metadata: {name: client, namespace: default, labels: {app: client}}
spec: {serviceAccount: client, node: vm, selector: {systemdUnit: client.service}, addresses: [10.9.0.1], ports: [9999]}
---
kind: Service
metadata: {name: web, namespace: default}
spec: {virtualAddresses: [10.96.0.1], ports: [{port: 80, targetPort: 80}], selector: {app: server}}
YAML
    mv /etc/culvert/resources/mesh.yaml.new /etc/culvert/resources/mesh.yaml
    systemctl unmask nginx.service 2>/dev/null
    systemctl restart nginx.service
}

watchdog_restarts_a_stuck_meshd() {
    local before
    before=$(systemctl show -P MainPID meshd.service)
    kill -STOP "$before"
    eventually 90 another_meshd "$before" || { echo "meshd $before was not replaced" && return 1; }
    services_are_active && workloads_connect
}

another_meshd() {
    local now
    now=$(systemctl show -P MainPID meshd.service)
    [ "$now" != 0 ] && [ "$now" != "$1" ]
}

proxy_survives_meshd() {
    local before
    before=$(systemctl show -P MainPID culvert-proxy@main.service)
    systemctl restart meshd.service || return 1
    services_are_active || return 1
    [ "$(systemctl show -P MainPID culvert-proxy@main.service)" = "$before" ] || { echo "the proxy was restarted" && return 1; }
    workloads_connect
}

uninstall_leaves_nothing() {
    local left
    systemctl stop nginx.service
    bash "$PRODUCT/tools/install" --uninstall || return 1
    left=$({
        bpftool prog show | grep -o 'name mesh_[a-z0-9_]*'
        find /sys/fs/bpf -mindepth 1
        find /sys/fs/cgroup -type d -name '*culvert*'
        find /etc /usr/local /run /var/lib -path "$COUNTS" -prune -o -name '*culvert*' -print -o -name 'meshd*' -print -o -name 'meshctl*' -print
        getent passwd culvert
        getent group mesh
    } 2>/dev/null)
    is_empty "$left"
}

keep_counts() { printf 'CHECKS_PASSED=%d CHECKS_FAILED=%d\n' "$CHECKS_PASSED" "$CHECKS_FAILED" >"$COUNTS"; }

if [ "${VM_BOOT:-1}" = 1 ]; then
    check_that "runs Debian's 6.1 kernel and cgroup v2 alone" runs_the_oldest_kernel
    check_that "tools/install starts both services" installs
    check_that "systemd-analyze security is at most 4.0" exposure_is_at_most_four
    check_that "the proxy has no capability, no way to one, and a seccomp filter" proxy_is_unprivileged
    check_that "both services have a memory limit" memory_is_limited
    check_that "two units connect through the mesh" workloads_connect
    check_that "the proxy outlives a restart of meshd" proxy_survives_meshd
    check_that "the watchdog replaces a stuck meshd" watchdog_restarts_a_stuck_meshd
    keep_counts
    systemctl reboot
    sleep 60
else
    # shellcheck source=/dev/null
    . "$COUNTS"
    ip link add dummy0 type dummy && ip address replace 10.9.0.1/32 dev dummy0 && ip link set dummy0 up
    systemctl start nginx.service
    check_that "both services are back after a reboot" services_are_active
    check_that "two units connect through the mesh after a reboot" workloads_connect
    check_that "tools/install --uninstall leaves nothing behind" uninstall_leaves_nothing
    rm -f "$COUNTS"
    checks_summary
fi
