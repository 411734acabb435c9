# shellcheck shell=bash
# One run of the test binary, its output shown as it comes, its counts kept for the closing line.

TESTS_PASSED=0
TESTS_FAILED=0

# swift_tests NAME [swift test's ARGUMENTS…]: runs and counts. A run that ends without a verdict (crash, no test
# matched, does not build) counts as one failure.
swift_tests() {
    local name=$1 log status=0 total failed
    shift
    log=$(mktemp)
    say "runs $name"
    # The status goes by a file: `|| true`, which grep needs, would forget it.
    { swift test "$@" 2>&1 || echo $? >"$log.status"; } | tee "$log" |
        grep -vE '^(◇|\[[0-9]+/[0-9]+\])|^(✔|✘)? ?Test case' || true
    status=$(cat "$log.status" 2>/dev/null || echo 0)
    total=$(sed -nE 's/.*Test run with ([0-9]+) tests?( in [0-9]+ suites?)? (passed|failed) after.*/\1/p' "$log" | tail -n 1)
    failed=$(grep -cE '^(✘|\S*) ?Test (".*"|[A-Za-z_`].*\)) failed after' "$log" || true)
    rm -f "$log" "$log.status"
    if [ "${total:-0}" -eq 0 ] || { [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; }; then
        say "$name ended without a verdict (exit status $status)"
        failed=$((failed + 1))
        total=$((${total:-0} + 1))
    fi
    count_tests "$((total - failed))" "$failed"
}

count_tests() {
    TESTS_PASSED=$((TESTS_PASSED + $1))
    TESTS_FAILED=$((TESTS_FAILED + $2))
}

# counted_checks NAME COMMAND…: runs a tool that closes with "N passed, N failed" and adds its counts.
counted_checks() {
    local name=$1 log status=0 counts
    shift
    log=$(mktemp)
    say "runs $name"
    { "$@" 2>&1 || echo $? >"$log.status"; } | tee "$log"
    status=$(cat "$log.status" 2>/dev/null || echo 0)
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" | tail -n 1)
    rm -f "$log" "$log.status"
    if [ -z "$counts" ] || { [ "$status" -ne 0 ] && [ "${counts#* }" -eq 0 ]; }; then
        say "$name ended without a verdict (exit status $status)"
        counts="0 1"
    fi
    count_tests "${counts% *}" "${counts#* }"
}
