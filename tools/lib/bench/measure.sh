# shellcheck shell=bash
# How a row comes about: every path is measured once a round, the paths take turns, and the median of the rounds counts.
# A measurement during which something else used the processors is made again, so often and no oftener.

declare -A BENCH_SAMPLES BENCH_DISTURBED
BENCH_OTHER_MAX=10
BENCH_REPEATS_LEFT=40

# bench_rounds PROBE ROWS PATHS [ARGUMENT…]: calls `PROBE PATH ARGUMENT…`, which prints one value for each of ROWS.
bench_rounds() {
    local probe=$1 rows=$2 paths=$3 round path values index row
    shift 3
    bench_is_wanted "$rows" || return 0
    say "measures $rows"
    for round in $(seq "$BENCH_ROUNDS"); do
        for path in $(bench_turn "$round" "$paths"); do
            bench_undisturbed "$probe" "$path" "$@" || die "$probe $path $* failed in round $round: $(tail -n 2 "$LAB_STATE/bench/errors")"
            index=0
            for row in $rows; do
                BENCH_SAMPLES[$row $path]+=" ${values[$index]}"
                [ "$disturbed" = no ] || BENCH_DISTURBED[$row]=yes
                index=$((index + 1))
            done
        done
    done
    for row in $rows; do bench_told "$row" "$paths"; done
}

# What a row came to, as soon as it is known: a run that fails later loses the table, not this.
bench_told() {
    local path text=''
    for path in $2; do text+=", $path $(bench_median "$1" "$path")"; done
    say "$1: ${text#, }"
}

# bench_turn ROUND PATHS: who was last begins the next round.
bench_turn() { tr -s ' ' '\n' <<<"$2" | if [ $(($1 % 2)) -eq 1 ]; then cat; else tac; fi; }

# Whether --only names one of ROWS.
bench_is_wanted() {
    local row
    [ -n "$BENCH_ONLY" ] || return 0
    for row in $1; do [[ " ${BENCH_ONLY//,/ } " != *" $row "* ]] || return 0; done
    return 1
}

# bench_metrics NODE, and bench_metric NODE NAME: the sum of its series.
bench_metrics() { lab_in "$1" none curl -sf -m 5 "http://[::1]:$LAB_METRICS_PORT/metrics"; }
bench_metric() { bench_metrics "$1" | awk -v name="$2" 'index($1 "{", name "{") == 1 { sum += $NF } END { printf "%d\n", sum }'; }

# Sets values and disturbed.
bench_undisturbed() {
    local output attempt before other
    for attempt in 1 2 3; do
        before=$(bench_busy)
        output=$("$@" 2>"$LAB_STATE/bench/errors") && [ -n "$output" ] || return 1
        read -ra values <<<"$output"
        other=$(bench_other "$before" "$(bench_busy)")
        disturbed=no
        # It measures its own thread's CPU, in less time than it takes to begin.
        [ "$1" != probe_connects ] || return 0
        if [ "$other" -le "$BENCH_OTHER_MAX" ]; then
            bench_note_other "$other"
            return 0
        fi
        disturbed=yes
        if [ "$attempt" -eq 3 ] || [ "$BENCH_REPEATS_LEFT" -eq 0 ]; then
            bench_note_other "$other"
            return 0
        fi
        BENCH_REPEATS_LEFT=$((BENCH_REPEATS_LEFT - 1))
        say "other load took $other % of the machine meanwhile: once more"
    done
}

# What others used during the measurements that count.
BENCH_OTHER_SUM=0 BENCH_OTHER_COUNT=0 BENCH_OTHER_MOST=0
bench_note_other() {
    BENCH_OTHER_SUM=$((BENCH_OTHER_SUM + $1)) BENCH_OTHER_COUNT=$((BENCH_OTHER_COUNT + 1))
    [ "$1" -le "$BENCH_OTHER_MOST" ] || BENCH_OTHER_MOST=$1
}
bench_other_load() {
    echo "other load during the measurements: $((BENCH_OTHER_COUNT > 0 ? BENCH_OTHER_SUM / BENCH_OTHER_COUNT : 0)) % of the machine as a mean, $BENCH_OTHER_MOST % at the most"
}

# Microseconds: all processors so far, of that busy, and what the lab used.
bench_busy() {
    awk -v lab="$(awk '/^usage_usec/ { print $2 }' "$(lab_cgroup_root)/cpu.stat")" \
        '/^cpu / { busy = $2 + $3 + $4 + $7 + $8 + $9; printf "%.0f %.0f %.0f\n", (busy + $5 + $6) * 10000, busy * 10000, lab; exit }' /proc/stat
}

# bench_other BEFORE AFTER: percent of the machine that others used in between.
bench_other() {
    # shellcheck disable=SC2086 # two lists of three numbers
    set -- $1 $2
    awk -v all=$(($4 - $1)) -v other=$((($5 - $2) - ($6 - $3))) 'BEGIN { printf "%d\n", (all > 0 && other > 0 ? other * 100 / all : 0) }'
}

# bench_median ROW PATH: `-` where it was not measured.
bench_median() {
    # shellcheck disable=SC2086 # a list of numbers
    [ -n "${BENCH_SAMPLES[$1 $2]:-}" ] && printf '%s\n' ${BENCH_SAMPLES[$1 $2]} | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }' || echo -
}

# bench_medians ROW UNIT: adds the row to the table; with --only, if it was measured.
bench_medians() {
    [ -z "$BENCH_ONLY" ] || [[ " ${!BENCH_SAMPLES[*]} " == *" $1 "* ]] || return 0
    bench_row "$1" "$2" "$(bench_median "$1" direct)" "$(bench_median "$1" culvert)" "$(bench_median "$1" envoy)" \
        "$(bench_median "$1" haproxy)" "${BENCH_DISTURBED[$1]:-no}"
}

# --- SCHED_IDLE spinners: halted processors would dominate the latency of single requests

bench_awake() {
    local processor
    for processor in $(seq 0 $(($(nproc) - 1))); do
        bench_process "spin-$processor" a taskset -c "$processor" "$BENCH_BIN/load" spin
    done
}

bench_asleep() {
    local processor
    for processor in $(seq 0 $(($(nproc) - 1))); do process_end "spin-$processor"; done
}
