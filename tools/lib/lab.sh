# shellcheck shell=bash
# The lab as a whole: up, down, its environment. Demo, tests and bench stand on this file. Needs ROOT and say.sh.
: "${ROOT:?set by the tool that sources this: the top of the tree}"

. "$ROOT/tools/lib/build.sh"
. "$ROOT/tools/lib/processes.sh"
. "$ROOT/tools/lib/lab_names.sh"
. "$ROOT/tools/lib/lab_cgroups.sh"
. "$ROOT/tools/lib/lab_network.sh"
. "$ROOT/tools/lib/lab_distance.sh"
. "$ROOT/tools/lib/lab_resources.sh"
. "$ROOT/tools/lib/lab_applications.sh"
. "$ROOT/tools/lib/lab_resolver.sh"
PROCESSES_DIRECTORY=$LAB_STATE/processes

# lab_up MESH(yes|no) IP(any|6) BUILD(release|debug): a fresh lab, unless exactly this one is up and answers.
lab_up() {
    local wanted="$*"
    if [ "$1" = yes ]; then build_products "$3"; fi
    if [ "$(lab_option complete)" = "$wanted" ] && lab_is_current && lab_answers; then
        say "the lab is up already"
        return 0
    fi
    [ -z "$(lab_option complete)" ] || say "replaces the lab that is up ($(lab_option complete)): it is not $wanted of this build"
    lab_remove
    say "makes network namespaces $LAB-{a,b}[-w3,-w4], cgroup $(lab_cgroup_root) and $LAB_STATE"
    mkdir -p "$LAB_STATE"/{log,bin}
    lab_option mesh "$1"
    lab_option ip "$2"
    lab_option build "$3"
    [ -z "${LAB_OF_DEMO:-}" ] || lab_option demo yes
    lab_cgroups_make
    lab_network_make
    lab_hosts_write
    lab_bpffs_mount
    lab_resolvers_start
    lab_nginx_start web b w1
    lab_nginx_start inner-web b w3
    lab_is_plain || lab_mesh_start
    wait_for 60 lab_answers || die "service web does not answer on node a; see $LAB_STATE/*/log and $LAB_STATE/log"
    lab_option complete "$wanted"
    say "the lab is up: $(lab_web_url) answers on node a"
}

lab_is_current() { lab_is_plain || { cmp -s "$MESHD" "$LAB_STATE/bin/meshd" && cmp -s "$MESHCTL" "$LAB_STATE/bin/meshctl"; }; }

# A bpffs of the lab's own: pins are in nobody's way, and unmounting it removes every one of them.
lab_bpffs_mount() {
    mkdir -p "$LAB_BPFFS"
    mountpoint -q "$LAB_BPFFS" || mount -t bpf bpffs "$LAB_BPFFS"
}

# The lab runs copies of the products, so that a build beside it changes nothing under its feet.
lab_mesh_start() {
    local node
    cp "$MESHD" "$MESHCTL" "$LAB_STATE/bin/"
    MESHD=$LAB_STATE/bin/meshd MESHCTL=$LAB_STATE/bin/meshctl
    chmod 755 "$LAB_STATE/bin" "$LAB_STATE"/bin/*
    for node in $LAB_NODES; do
        lab_config_write "$node"
        lab_resources_write "$LAB_STATE/$node/resources"
    done
    lab_certificates_issue
    for node in $LAB_NODES; do lab_meshd_start "$node"; done
    for node in $LAB_NODES; do
        wait_for 60 lab_is_ready "$node" || {
            tail -n 20 "$LAB_STATE/$node/log/meshd.log" >&2
            die "meshd of node $node is not ready; see $LAB_STATE/$node/log/meshd.log"
        }
    done
}

lab_meshd_start() {
    local node=$1
    process_start "meshd-$node" "$LAB_STATE/$node/log/meshd.log" \
        sh -c 'echo $$ >"$1/cgroup.procs" && exec nsenter --net="$2" -- "$3" --config "$4"' \
        sh "$(lab_cgroup "$node")" "/run/netns/$(lab_netns "$node")" "$LAB_STATE/bin/meshd" "$LAB_STATE/$node/meshd.yaml"
}

lab_is_ready() { in_netns "$(lab_netns "$1")" curl -sf -m 2 -o /dev/null "http://[::1]:$LAB_READINESS_PORT/healthz/ready"; }

lab_answers() { lab_in a w1 curl -sf -m 5 -o /dev/null "$(lab_web_url)"; }

lab_web_url() {
    if ! lab_is_plain; then
        echo http://web/
    elif lab_is_ipv6_only; then
        echo "http://[$(lab_address6 b)]:8080/"
    else
        echo "http://$(lab_address4 b):8080/"
    fi
}

# lab_remove: every trace, of a complete lab or of one that was killed half-way.
lab_remove() {
    processes_end_all
    lab_cgroups_remove
    lab_network_remove
    while mountpoint -q "$LAB_BPFFS"; do umount -l "$LAB_BPFFS"; done
    rm -rf "$LAB_STATE"
}

# What a lab of this name still has on the machine; prints it and returns 1 if anything.
lab_leaves_nothing() {
    is_empty "$({
        ip netns list | awk -v lab="$LAB-" 'index($1, lab) == 1 { print "network namespace " $1 }'
        find "$(cgroup2_mount)" -maxdepth 1 -name "$LAB-lab*"
        find /run -maxdepth 1 -name "$LAB-*"
        awk -v lab="/run/$LAB-" 'index($5, lab) { print "mount " $5 }' /proc/self/mountinfo
    } 2>/dev/null)"
}

# lab_env: shell variables for scripts and people.
lab_env() {
    local node name
    [ -n "$(lab_option complete)" ] || die "the lab is not up: sudo tools/lab up"
    printf 'WEB_URL=%s\nLAB_MESH=%s\nLAB_IPV6_ONLY=%s\nLAB_STATE=%s\n' "$(lab_web_url)" "$(lab_option mesh)" \
        "$(lab_is_ipv6_only && echo yes || echo no)" "$LAB_STATE"
    printf 'LAB_BUILD=%s\nLAB_CGROUP=%s\nLAB_BPFFS=%s\n' "$(lab_option build)" "$(lab_cgroup_root)" "$LAB_BPFFS"
    for node in $LAB_NODES; do
        name=$(tr '[:lower:]' '[:upper:]' <<<"$node")
        lab_is_ipv6_only || printf 'ADDRESS4_%s=%s\n' "$name" "$(lab_address4 "$node")"
        printf 'ADDRESS6_%s=%s\n' "$name" "$(lab_address6 "$node")"
        printf 'NETNS_%s=%s\nADMIN_SOCKET_%s=%s\n' "$name" "$(lab_netns "$node")" "$name" "$LAB_STATE/$node/run/admin.sock"
        printf 'METRICS_URL_%s=http://[%s]:%s/metrics\n' "$name" "$(lab_address6 "$node")" "$LAB_METRICS_PORT"
        printf 'METRICS_PORT_%s=%s\nREADINESS_PORT_%s=%s\n' "$name" "$LAB_METRICS_PORT" "$name" "$LAB_READINESS_PORT"
        printf 'MESHD_LOG_%s=%s\n' "$name" "$LAB_STATE/$node/log/meshd.log"
    done
}

lab_status() {
    local file name
    if [ -z "$(lab_option complete)" ]; then
        [ ! -d "$LAB_STATE" ] || die "the lab is half made: tools/lab up makes it anew, tools/lab down removes it"
        die "the lab is down"
    fi
    for file in "$PROCESSES_DIRECTORY"/*; do
        name=${file##*/}
        printf '%-12s %s\n' "$name" "$(process_pid "$name" || echo ended)"
    done
    lab_answers || die "$(lab_web_url) does not answer on node a"
    printf '%s answers on node a\n' "$(lab_web_url)"
}
