# shellcheck shell=bash
# The products that people run, built when missing or stale. MESHD and MESHCTL are set to their paths. Release products
# hold Swift's runtime in themselves: they run where no Swift is installed, and share no writable library pages.

# build_products release|debug|DIRECTORY: sets MESHD and MESHCTL; what a directory (an absolute path) holds is taken as it is.
build_products() {
    if [ "${1#/}" != "$1" ]; then
        MESHD=$1/meshd MESHCTL=$1/meshctl
        return 0
    fi
    local log=$ROOT/.build/products.log arguments=(-c "$1")
    [ "$1" = debug ] || arguments+=(--static-swift-stdlib)
    say "builds meshd and meshctl ($1)"
    mkdir -p "$ROOT/.build"
    "$ROOT/tools/build" "${arguments[@]}" >"$log" 2>&1 || {
        grep -E 'error:' "$log" | head -20 >&2 || tail -n 20 "$log" >&2
        die "does not build; see $log"
    }
    MESHD=$ROOT/.build/$1/meshd
    MESHCTL=$ROOT/.build/$1/meshctl
    [ -x "$MESHD" ] || die "tools/build -c $1 made no $MESHD"
    [ -x "$MESHCTL" ] || die "tools/build -c $1 made no $MESHCTL"
}
