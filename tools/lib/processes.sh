# shellcheck shell=bash
# Background processes by name, recorded with their start time, so that only what was started here is ever ended and a
# recycled process id is never taken for one of ours. PROCESSES_DIRECTORY holds one file a process.

# process_start NAME LOG COMMAND…: detached, in its own session, output appended to LOG.
process_start() {
    local name=$1 log=$2 pid
    shift 2
    mkdir -p "$PROCESSES_DIRECTORY"
    setsid -- "$@" >>"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(process_start_time "$pid")" >"$PROCESSES_DIRECTORY/$name"
    disown "$pid"
}

# process_start_time PID: in clock ticks since boot; nothing when there is no such process.
process_start_time() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    read -ra line <<<"${line##*) }"
    # shellcheck disable=SC2128  # the array's field 19 is field 22 of the file
    [ "${line[0]}" = Z ] || echo "${line[19]}"
}

# process_pid NAME: its id while it lives.
process_pid() {
    local pid start
    { read -r pid start <"$PROCESSES_DIRECTORY/$1"; } 2>/dev/null || return 1
    [ -n "$start" ] && [ "$(process_start_time "$pid")" = "$start" ] && echo "$pid"
}

# process_end NAME [SECONDS]: TERM, then KILL after the seconds (10).
process_end() {
    local pid deadline=$((SECONDS + ${2:-10}))
    while pid=$(process_pid "$1"); do
        if [ "$SECONDS" -ge "$deadline" ]; then kill -KILL "$pid" 2>/dev/null; else kill -TERM "$pid" 2>/dev/null; fi || true
        wait_for 1 process_is_gone "$1" || true
    done
    rm -f "$PROCESSES_DIRECTORY/$1"
}

process_is_gone() { ! process_pid "$1" >/dev/null; }

processes_end_all() {
    local file
    [ -d "$PROCESSES_DIRECTORY" ] || return 0
    for file in "$PROCESSES_DIRECTORY"/*; do [ ! -f "$file" ] || process_end "${file##*/}"; done
}

# wait_for SECONDS COMMAND…: polls ten times a second until the command holds.
wait_for() {
    local deadline=$(($(date +%s%N) / 1000000 + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $(($(date +%s%N) / 1000000)) -lt "$deadline" ] || return 1
        sleep 0.1
    done
}
