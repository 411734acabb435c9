# shellcheck shell=bash
# Runs Tests/RelayGuard both ways and keeps what was counted: one file a unit and quantity in GUARDS_DIRECTORY, per unit.

GUARDS_DIRECTORY=$ROOT/.build/guards
# In percent, for system calls: runs differ by 3 in waits, reads and writes, as control threads take one record at a time or
# two. Calls that set sockets up and close them do not differ, but for a stray one.
# shellcheck disable=SC2034 # for tools/guards
GUARDS_MARGIN_CALLS=4
GUARDS_STRAY_SETUP=0.2
# In a whole phase of 96 to 960 units: ten whenever a timer of the control thread is due, and chunks that grow to what they
# are used for.
GUARDS_STRAY_ALLOCATIONS=24

# One CPU and no preemption by who wakes up: each thread runs until it waits, so that how many requests one read finds
# does not depend on who was faster.
guards_in_turn() { taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')" chrt --batch 0 "$@"; }

guards_count() {
    local release
    release=$(dirname "$MESHD")
    rm -rf "$GUARDS_DIRECTORY"
    mkdir -p "$GUARDS_DIRECTORY"
    guards_instructions "$release/relay-guard"
    guards_calls "$release/relay-guard"
}

# Valgrind 3.19 can't read the debug information that the linker writes; symbols are enough.
guards_instructions() {
    local unit count file program=$GUARDS_DIRECTORY/relay-guard
    say "counts instructions"
    objcopy --strip-debug "$1" "$program"
    guards_in_turn timeout 300 valgrind --tool=callgrind --compress-strings=no --callgrind-out-file="$GUARDS_DIRECTORY/callgrind" \
        "$program" threads >"$GUARDS_DIRECTORY/units" 2>"$GUARDS_DIRECTORY/valgrind.log" ||
        die "relay-guard failed under callgrind: $(tail -n 1 "$GUARDS_DIRECTORY/units" "$GUARDS_DIRECTORY/valgrind.log")"
    while read -r unit count; do
        file=$(grep -lx "desc: Trigger: Client Request: $unit" "$GUARDS_DIRECTORY"/callgrind.*)
        guards_cost "$file" '' "$count" >"$GUARDS_DIRECTORY/$unit.instructions"
        guards_cost "$file" "$program" "$count" >"$GUARDS_DIRECTORY/$unit.ours"
    done <"$GUARDS_DIRECTORY/units"
}

# guards_cost FILE OBJECT UNITS: instructions per unit, in one object or (empty) in all. The line behind calls= is what
# the callee cost, counted there.
guards_cost() {
    awk -v object="$2" -v units="$3" '
        /^ob=/ { here = object == "" || substr($0, 4) == object }
        /^calls=/ { skip = 1; next }
        /^[0-9+*-]/ { if (!skip && here) sum += $2; skip = 0 }
        END { printf "%d\n", sum / units }' "$1"
}

guards_calls() {
    local unit count allocations wait read write other library=$GUARDS_DIRECTORY/interposer.so
    say "counts allocations and system calls"
    "${CC:-cc}" -O2 -shared -fPIC -Wno-attributes -I bpf/abi -o "$library" Tests/RelayGuard/Interposer/interposer.c -ldl
    guards_in_turn timeout 120 "$1" processes "$MESHD" "$library" "$GUARDS_DIRECTORY/shared" >"$GUARDS_DIRECTORY/calls" ||
        die "relay-guard failed: $(tail -n 1 "$GUARDS_DIRECTORY/calls")"
    while read -r unit count allocations wait read write other; do
        echo "$allocations $count" >"$GUARDS_DIRECTORY/$unit.allocations"
        awk -v sum=$((wait + read + write + other)) -v units="$count" 'BEGIN { printf "%.1f\n", sum / units }' \
            >"$GUARDS_DIRECTORY/$unit.calls"
        awk -v sum="$other" -v units="$count" 'BEGIN { printf "%.2f\n", sum / units }' >"$GUARDS_DIRECTORY/$unit.setup"
    done <"$GUARDS_DIRECTORY/calls"
}

guards_table() {
    local unit
    echo "unit instructions ours allocations system-calls set-up"
    while read -r unit _; do
        echo "$unit $(cat "$GUARDS_DIRECTORY/$unit.instructions") $(cat "$GUARDS_DIRECTORY/$unit.ours") $(awk '{ printf "%.2f", $1 / $2 }' \
            "$GUARDS_DIRECTORY/$unit.allocations") $(cat "$GUARDS_DIRECTORY/$unit.calls") $(cat "$GUARDS_DIRECTORY/$unit.setup")"
    done <"$GUARDS_DIRECTORY/units"
}

# guard_within UNIT QUANTITY LIMIT MARGIN
guard_within() {
    local counted
    counted=$(cat "$GUARDS_DIRECTORY/$1.$2") || return 1
    awk -v counted="$counted" -v limit="$3" -v margin="$4" 'BEGIN {
        if (counted > 0 && counted <= limit * (1 + margin / 100)) exit 0
        printf "%s were counted (%+.1f %%)\n", counted, (counted / limit - 1) * 100
        exit 1 }'
}

# guard_setup UNIT LIMIT
guard_setup() {
    local counted
    counted=$(cat "$GUARDS_DIRECTORY/$1.setup") || return 1
    awk -v counted="$counted" -v limit="$2" -v stray="$GUARDS_STRAY_SETUP" 'BEGIN {
        if (counted <= limit + stray) exit 0
        printf "%s were counted\n", counted
        exit 1 }'
}

# guard_allocations UNIT LIMIT
guard_allocations() {
    local counted units
    read -r counted units <"$GUARDS_DIRECTORY/$1.allocations" || return 1
    awk -v counted="$counted" -v units="$units" -v limit="$2" -v stray="$GUARDS_STRAY_ALLOCATIONS" 'BEGIN {
        if (counted <= limit * units + stray) exit 0
        printf "%d in %d of them were counted\n", counted, units
        exit 1 }'
}

# guard_is_sharp UNIT MARGIN INSTRUCTIONS OURS ALLOCATIONS CALLS SETUP: a tenth more instructions or calls, one allocation more
# for each unit (three, of those that make more than a hundred, which differ by one) or one call more that sets up would break
# the limits. A limit with room for them is none.
guard_is_sharp() {
    local more=$1.more counted=$GUARDS_DIRECTORY/$1 quantity dull=
    for quantity in instructions ours calls; do
        awk '{ printf "%.2f\n", $1 * 1.1 }' "$counted.$quantity" >"$counted.more.$quantity"
    done
    awk '{ print $1 + ($1 > 100 * $2 ? 3 : 1) * $2, $2 }' "$counted.allocations" >"$counted.more.allocations"
    awk '{ print $1 + 1 }' "$counted.setup" >"$counted.more.setup"
    ! guard_within "$more" instructions "$3" "$2" >/dev/null || dull+=" instructions,"
    ! guard_within "$more" ours "$4" "$2" >/dev/null || dull+=" our own instructions,"
    ! guard_allocations "$more" "$5" >/dev/null || dull+=" allocations,"
    ! guard_within "$more" calls "$6" "$GUARDS_MARGIN_CALLS" >/dev/null || dull+=" system calls,"
    ! guard_setup "$more" "$7" >/dev/null || dull+=" calls that set up,"
    [ -z "$dull" ] || {
        echo "the limit has room for more:${dull%,}"
        return 1
    }
}
