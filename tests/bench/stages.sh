#!/bin/bash
# Times of `ocinitrd build`: all anew, and after each kind of change. Prints Markdown tables: medians of 3 runs, and what the tool says of
# the stages of one of them.
#
# Usage: stages.sh [OCINITRD]      default: target/release/ocinitrd
#
# The image is `offline` in a directory of its own with a store of its own, in $TMPDIR [default: /var/tmp], 1 GB. The lock is made, and the
# packages are fetched and verified, before anything is measured. "All anew" removes the cache of results but for the record of verified
# signatures; every other row is one change to what was built before, whose result the cache does not have yet.
#
# CPU is that of ocinitrd and of all that it starts, podman's service and the containers among it: see measure.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"

RUNS=3

begin "$@"
export XDG_CACHE_HOME=$work/cache

# build ROW IMAGE [OPTION]...: an image whose lock is there.
build() {
    local row=$1 image=$2
    shift 2
    run_measured "$row" "$ocinitrd" build "$work/images/$image.toml" -O "$work/out-$image" --engine podman "$@"
}

lock() {
    local image=$1
    shift
    "$ocinitrd" lock --quiet --engine podman "$work/images/$image.toml" "$@" >/dev/null
}

kernels() {
    sed -n '/^\[\[arch.*\.kernel\]\]/,/^version/s/^version = "\(.*\)"/\1/p' "$work/images/$1.lock" | sort -uV
}

# The kernel before the newest of the repository, told by the versions of its packages.
older_kernel() {
    local newest=$1 version
    version=$(cd "$checkout/target/offline/repo/Packages" && printf '%s\n' kernel-core-*.rpm |
        sed 's/^kernel-core-\([^-]*\)-.*/\1/' | sort -V | tail -n 2 | head -n 1)
    echo "$version+${newest#*+}"
}

# row ROW TEXT
row() {
    printf '| %s | %.2f s | %.2f s | %s |\n' "$2" "$(median "$1" 1)" "$(median "$1" 2)" "$(containers "$1")"
}

# Whether the run needed the engine.
containers() {
    if grep -q '^engine: ' "$work/$1.log"; then echo yes; else echo no; fi
}

stages() {
    sed -n 's/^\([^ ].*\) (\([0-9.]* s\))$/| \1 | \2 |/p; s/^  | \(.*\) took \([0-9.]* s\)$/| of installing: \1 | \2 |/p' "$work/$1.log"
}

prepare() {
    definition offline
    lock offline
    newest=$(kernels offline)
    older=$(older_kernel "$newest")
    [ "$older" != "$newest" ] || { echo "$0: the offline repository holds one kernel only" >&2; exit 1; }
    lock offline -k "$newest" -k "$older"
    definition host '[kernel]' "modules = $(host_modules)"
    lock host -k "$newest" -k "$older"
}

prepare
for _ in $(seq "$RUNS"); do
    forget_results
    rm -rf "$work"/out-*
    build cold offline -k "$newest" --verbose
    build same offline -k "$newest"
    build compression offline -k "$newest" --compress zstd:4
    definition offline '[kernel]' 'modules = ["e1000e"]'
    build patterns offline -k "$newest"
    definition offline
    build kernel offline -k "$older"
    # The base is that of `offline`, in the cache; the row before has left the kernel's image there.
    rm -rf "$work/cache/ocinitrd/cache/kernel"
    build host-kernel host -k "$older"
    selected=$(sed -n 's/^selecting modules: \([0-9]*\) of .*/\1/p' "$work/host-kernel.log")
done

echo "$machine, median of $RUNS runs:"
echo
echo "| build of \`offline\` | time | CPU time | containers |"
echo "|---|---:|---:|---|"
row cold "all anew, rpms fetched and verified"
row same "nothing changed"
row compression "only the compression changed, to zstd:4"
row patterns "only the module patterns changed"
row kernel "another kernel, generic selection"
row host-kernel "another kernel, host-like selection of $selected modules"
for run in cold kernel host-kernel; do
    echo
    echo "| stage, $run | time |"
    echo "|---|---:|"
    stages "$run"
done
