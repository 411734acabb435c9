# shellcheck shell=bash
# Workloads as systemd makes them.
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

# Without a retry: a unit's first connect is carried or refused, never let through as it is (there is no route to it).
first_connects() {
    local _
    for _ in 1 2 3 4 5 6; do
        as_client bash -c 'exec 3<>/dev/tcp/10.96.0.10/80' 2>&1 | grep -v 'refused' | grep unreachable && return 1
    done
    return 0
}
