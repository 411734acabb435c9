# shellcheck shell=bash
# Workloads as systemd makes them: units that dial first thing, that come back in another cgroup of the same path, that
# have cgroups of their own below them.
: "${STATE:?set by the script that sources this: a directory}"

web_start() {
    mkdir -p "$STATE/web"
    echo "hello from the unit" >"$STATE/web/index.html"
    cat >"$STATE/nginx.conf" <<CONF
daemon off; pid $STATE/nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    server { listen 10.77.0.1:8080; root $STATE/web; location /slow { limit_rate 20k; } }
}
CONF
    chmod 755 "$STATE" "$STATE/web"
    systemd-run --quiet --collect --unit web nginx -c "$STATE/nginx.conf"
}
carries() { web_start && wait_until 60 greeted; }
shows_flow() { meshctl flows -o json --since 60s | grep -q '"destination_principal":"spiffe://vm.example/ns/default/sa/web"'; }

# What a process does whose first act is connect(); there is no route to the address.
FIRST_WORD='exec 3<>/dev/tcp/10.96.0.10/80 && printf "GET / HTTP/1.0\r\n\r\n" >&3 && grep "hello from the unit" <&3'

# Without a retry: a unit's first connect is carried or refused, never let through as it is.
first_connects() {
    local said _
    for _ in 1 2 3 4 5 6; do
        said=$(as_client bash -c "$FIRST_WORD" 2>&1)
        grep -qE "hello from the unit|Connection refused" <<<"$said" || {
            printf 'its first connect: %s\n' "$said"
            return 1
        }
    done
}

# A unit that systemd keeps: each start is a cgroup of the same path, which is another workload. Its first act is to dial.
caller_unit() {
    printf '%s\n' 'word() { ('"$FIRST_WORD"') 2>&1; }' 'until word; do sleep 0.5; done' 'exec sleep infinity' \
        >"$STATE/caller"
    printf '[Service]\nExecStart=/bin/bash %s\n' "$STATE/caller" >/run/systemd/system/caller.service
    systemctl daemon-reload
}
caller_says() { journalctl --sync && journalctl -o cat --no-pager "_SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID caller)"; }
caller_is_greeted() { caller_says | grep -q "hello from the unit"; }
restarted_client_is_carried() {
    caller_unit
    local _
    for _ in 1 2 3; do
        systemctl restart caller
        wait_until 60 caller_is_greeted || {
            caller_says | tail -n 5
            return 1
        }
    done
    ! journalctl -o cat --no-pager -u caller | grep -i unreachable
}
restarted_server_is_carried() { systemctl restart web && wait_until 60 greeted; }

# A unit with cgroups of its own, as a container engine or a service with workers: they are the unit's workload.
nested_is_carried() {
    # In a file: systemd would read its dollars.
    cat >"$STATE/nested" <<'BASH'
here=/sys/fs/cgroup$(sed 's/^0:://' /proc/self/cgroup)
mkdir -p "$here/inner/most" && echo $$ >"$here/inner/most/cgroup.procs" || exit 1
exec curl -sf -m 30 --retry 20 --retry-delay 1 --retry-connrefused http://10.96.0.10/
BASH
    systemd-run --quiet --wait --pipe --collect --unit nested -p Delegate=yes bash "$STATE/nested" |
        grep "hello from the unit" || return 1
    wait_until 10 nested_is_shown || {
        meshctl flows -o json --since 60s | tail -n 3
        return 1
    }
}
nested_is_shown() { meshctl flows -o json --since 60s | grep -q '"source_principal":"spiffe://vm.example/ns/default/sa/nested"'; }

unit_checks() {
    check_that "the flow shows both principals" shows_flow
    check_that "a new unit's first connect is never let past the mesh" first_connects
    check_that "a restarted unit is carried in its new cgroup" restarted_client_is_carried
    check_that "a restarted server is reached in its new cgroup" restarted_server_is_carried
    check_that "a cgroup below a unit's is the unit's workload" nested_is_carried
}
