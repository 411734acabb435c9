# shellcheck shell=bash
# Running things as workloads of the lab: in the workload's cgroup and network namespace, with the lab's names.

# lab_run NODE WORKLOAD COMMAND…: becomes the command (exec), so exit code, signals and standard streams are its own.
# The workload `none` is the node's network namespace outside the node's cgroups: not meshed. With LAB_DNS=yes names are
# not in /etc/hosts: they are asked of the node's resolver.
lab_run() {
    local node=$1 workload=$2 cgroup netns hosts=$LAB_STATE/hosts
    shift 2
    if [ "$workload" = none ]; then
        cgroup=$(lab_cgroup_root)/tools
        netns=$(lab_netns "$node")
    else
        cgroup=$(lab_cgroup "$node" "$workload")
        netns=$(lab_netns "$node" "$workload")
    fi
    if [ ! -d "$cgroup" ] || [ ! -e "/run/netns/$netns" ]; then
        die "no workload $workload on node $node: is the lab up?"
    fi
    [ "${LAB_DNS:-}" != yes ] || hosts=$LAB_STATE/hosts-local
    # The network namespace first: what is in a workload's cgroup never was in another one.
    exec nsenter --net="/run/netns/$netns" -- unshare --mount --propagation private -- \
        sh -c 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && echo $$ >"$3/cgroup.procs" &&
            shift 3 && exec "$@"' \
        sh "$hosts" "$(lab_resolv_conf "$node" "$workload")" "$cgroup" "$@"
}

# lab_in: lab_run in a subshell, for scripts that go on afterwards.
lab_in() { (lab_run "$@"); }

# lab_start NAME NODE WORKLOAD COMMAND…: in the background, its output in log/NAME.log, ended by `down`.
lab_start() {
    local name=$1
    shift
    process_start "$name" "$LAB_STATE/log/$name.log" "$ROOT/tools/lab" exec "$1" --workload "$2" -- "${@:3}"
}

# nginx from Debian with its own configuration and prefix: service `web`, and the same in a namespace of its own.
lab_nginx_start() {
    local name=$1 node=$2 workload=$3 prefix
    prefix=$LAB_STATE/$node/$name
    mkdir -p "$prefix"/{html,logs,temporary}
    printf 'Hello from %s on node %s.\n' "$name" "$node" >"$prefix/html/index.html"
    head -c 1048576 /dev/zero | tr '\0' 'x' >"$prefix/html/1MiB"
    chmod 755 "$LAB_STATE" "$LAB_STATE/$node" "$prefix" "$prefix/html"
    cat >"$prefix/nginx.conf" <<CONF
daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid $prefix/nginx.pid;
error_log $prefix/logs/error.log warn;
events { worker_connections 8192; }
http {
    log_format lab '\$remote_addr \$remote_port "\$request" \$status \$body_bytes_sent';
    access_log $prefix/logs/access.log lab;
    client_body_temp_path $prefix/temporary/body;
    proxy_temp_path $prefix/temporary/proxy;
    fastcgi_temp_path $prefix/temporary/fastcgi;
    uwsgi_temp_path $prefix/temporary/uwsgi;
    scgi_temp_path $prefix/temporary/scgi;
    client_max_body_size 0;
    keepalive_requests 1000000;
    sendfile on;
    tcp_nopush on;
    server {
        listen 8080 backlog=4096;
        listen [::]:8080 backlog=4096;
        root $prefix/html;
        default_type text/plain;
        location = /remote { return 200 "\$remote_addr\n"; }
        location = /ok { access_log off; return 200 "ok\n"; }
    }
}
CONF
    lab_start "$name" "$node" "$workload" nginx -p "$prefix" -c "$prefix/nginx.conf"
}
