# shellcheck shell=bash
# The proxy gives way to another one, of another build or because it hangs, while a connection is at work.
: "${STATE:?set by the script that sources this: a directory}"

ANOTHER_BUILD=/root/another-build

other_proxy() { [ -n "$(proxy_pid)" ] && [ "$(proxy_pid)" != "$1" ] && [ "$(proxy_pid)" != 0 ]; }
one_proxy() { [ "$(systemctl list-units --no-legend --state=active 'culvert-proxy@*' | wc -l)" = 1 ]; }
drained_units_end() {
    wait_until 90 one_proxy || {
        systemctl list-units --no-legend 'culvert-proxy@*'
        return 1
    }
}

another_build() {
    mkdir -p "$ANOTHER_BUILD"
    cp /in/culvert/meshd /in/culvert/meshctl "$ANOTHER_BUILD/"
    # Another file, as far as anybody can tell; what stands behind an ELF file means nothing.
    date +%N >>"$ANOTHER_BUILD/meshd"
}

# cuts_nothing COMMAND...: a download that is under way meanwhile ends with its last byte, and another proxy serves. The
# server sends it slowly: what waits in buffers of the kernel would outlive any proxy.
cuts_nothing() {
    local before download size=800000
    before=$(proxy_pid)
    head -c $size /dev/zero >"$STATE/web/slow"
    as_client curl -sf -m 120 --retry 20 --retry-delay 1 --retry-connrefused -o /dev/null -w '%{size_download}' \
        http://10.96.0.10/slow >"$STATE/downloaded" &
    download=$!
    wait_until 60 downloads || { echo "the download does not begin" && return 1; }
    "$@" || return 1
    wait_until 60 other_proxy "$before" || { echo "proxy $before still serves" && return 1; }
    kill -0 $download || { echo "the download ended before the proxy was replaced" && return 1; }
    wait $download || { echo "the download was cut: $(cat "$STATE/downloaded")" && return 1; }
    [ "$(cat "$STATE/downloaded")" = $size ] || { echo "downloaded $(cat "$STATE/downloaded")" && return 1; }
    wait_until 60 greeted
}
downloads() { meshctl flows -o json --since 5s | grep '"state":"open"' | grep -q '"bytes_received":[1-9]'; }
installs_another_build() { another_build && "$ROOT/tools/install" --from "$ANOTHER_BUILD" --node vm; }
reloads_another_build() {
    another_build && install -m 755 "$ANOTHER_BUILD/meshd" /usr/local/sbin/meshd.new &&
        mv /usr/local/sbin/meshd.new /usr/local/sbin/meshd && systemctl reload meshd
}

stopped_proxy_is_replaced() {
    local before
    before=$(proxy_pid)
    kill -STOP "$before"
    wait_until 90 other_proxy "$before" && wait_until 60 greeted
    local result=$?
    kill -CONT "$before"
    return "$result"
}

upgrade_checks() {
    check_that "installing another build over it cuts no connection" cuts_nothing installs_another_build
    check_that "a reload with another build installed cuts no connection" cuts_nothing reloads_another_build
    check_that "a stopped proxy is replaced by another instance" stopped_proxy_is_replaced
    check_that "instances that have finished end" drained_units_end
}
