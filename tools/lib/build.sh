# shellcheck shell=bash
# The products that the lab runs, built when missing or stale. MESHD and MESHCTL are set to their paths.

# build_products release|debug
build_products() {
    say "builds meshd and meshctl ($1)"
    "$ROOT/tools/build" "--$1" >"$ROOT/.build/lab-build.log" 2>&1 || {
        grep -E 'error:' "$ROOT/.build/lab-build.log" | head -20 >&2 || true
        die "does not build; see .build/lab-build.log"
    }
    build_paths "$1"
    [ -x "$MESHD" ] || die "tools/build --$1 made no $MESHD"
    [ -x "$MESHCTL" ] || die "tools/build --$1 made no $MESHCTL"
}

build_paths() {
    MESHD=$ROOT/.build/$1/meshd
    MESHCTL=$ROOT/.build/$1/meshctl
}
