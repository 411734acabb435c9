# shellcheck shell=bash
# Runs Tests/RelayGuard both ways and keeps what was counted: one file a unit and quantity in GUARDS_DIRECTORY, per unit.

GUARDS_DIRECTORY=$ROOT/.build/guards
# For our own instructions and for system calls, in percent: both follow how the threads are scheduled.
# shellcheck disable=SC2034 # for tools/guards
GUARDS_MARGIN=15
# In a whole phase of 24 to 960 units: control threads, and buffers and chunks that grow to what they are used for.
GUARDS_STRAY_ALLOCATIONS=24

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
    timeout 300 valgrind --tool=callgrind --compress-strings=no --callgrind-out-file="$GUARDS_DIRECTORY/callgrind" \
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
    timeout 120 "$1" processes "$MESHD" "$library" "$GUARDS_DIRECTORY/shared" >"$GUARDS_DIRECTORY/calls" ||
        die "relay-guard failed: $(tail -n 1 "$GUARDS_DIRECTORY/calls")"
    while read -r unit count allocations wait read write other; do
        echo "$allocations $count" >"$GUARDS_DIRECTORY/$unit.allocations"
        awk -v sum=$((wait + read + write + other)) -v units="$count" 'BEGIN { printf "%.1f\n", sum / units }' \
            >"$GUARDS_DIRECTORY/$unit.calls"
    done <"$GUARDS_DIRECTORY/calls"
}

guards_table() {
    local unit
    echo "unit instructions ours allocations system-calls"
    while read -r unit _; do
        echo "$unit $(cat "$GUARDS_DIRECTORY/$unit.instructions") $(cat "$GUARDS_DIRECTORY/$unit.ours") $(awk '{ printf "%.2f", $1 / $2 }' \
            "$GUARDS_DIRECTORY/$unit.allocations") $(cat "$GUARDS_DIRECTORY/$unit.calls")"
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

# guard_allocations UNIT LIMIT
guard_allocations() {
    local counted units
    read -r counted units <"$GUARDS_DIRECTORY/$1.allocations" || return 1
    [ "$counted" -le $(($2 * units + GUARDS_STRAY_ALLOCATIONS)) ] || {
        echo "$counted in $units of them were counted"
        return 1
    }
}
