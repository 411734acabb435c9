# shellcheck shell=bash
# The lab's cgroup subtree: <cgroup v2>/<LAB>-lab/{a,b}/workloads/w1…w4 and, outside the nodes, tools/ for what is not
# part of any node (captures, probes, clients that must not be meshed).

# cgroup2_mount: where cgroup v2 is mounted, from /proc/self/mountinfo: /sys/fs/cgroup, or .../unified in hybrid setups.
cgroup2_mount() {
    awk '{ for (i = 7; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo
}

lab_cgroup_root() {
    local mount
    mount=$(cgroup2_mount)
    [ -n "$mount" ] || die "no cgroup v2 is mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup"
    echo "$mount/$LAB-lab"
}

# lab_cgroup NODE [WORKLOAD]
lab_cgroup() {
    if [ -n "${2:-}" ]; then echo "$(lab_cgroup_root)/$1/workloads/$2"; else echo "$(lab_cgroup_root)/$1"; fi
}

lab_cgroups_make() {
    local root node workload
    root=$(lab_cgroup_root)
    mkdir -p "$root/tools"
    for node in $LAB_NODES; do
        for workload in $LAB_WORKLOADS; do mkdir -p "$root/$node/workloads/$workload"; done
    done
}

# lab_cgroups_remove: kills what is still inside, then removes the whole subtree.
lab_cgroups_remove() {
    local root directory attempt
    root=$(lab_cgroup_root)
    [ -d "$root" ] || return 0
    echo 1 >"$root/cgroup.kill"
    for attempt in $(seq 100); do
        find "$root" -depth -type d | while read -r directory; do rmdir "$directory" 2>/dev/null || true; done
        [ -d "$root" ] || return 0
        sleep 0.1
    done
    die "cannot remove $root after $attempt attempts: something in it does not end"
}
