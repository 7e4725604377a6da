#!/bin/bash
# What the shipped images come to that can be built here: their packages, their sizes, and the time and CPU of a build. Prints a
# Markdown table; times are medians of 3 runs.
#
# Usage: images.sh [OCINITRD]      default: target/release/ocinitrd
#
# `offline-44` has the packages, the weight and the quirks of Fedora 44. Each image is in a directory of its own with a store of its own, in
# $TMPDIR [default: /var/tmp], 2 GB. The lock is made, and the packages are fetched and verified, before anything is measured.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"

RUNS=3

begin "$@"
export XDG_CACHE_HOME=$work/cache

# build ROW IMAGE
build() {
    run_measured "$1-$2" "$ocinitrd" build "$work/images/$2.toml" -O "$work/out-$2" --engine podman --verbose
}

# told IMAGE PATTERN: what the first build of all anew says, by a pattern of sed with one group.
told() {
    sed -n "s/$2/\1/p" "$work/cold-$1.log" | head -n 1
}

row() {
    local image=$1
    printf '| `%s` | %s | %s | %s | %s | %s MB | %.2f s | %.2f s | %.2f s |\n' "$image" \
        "$(told "$image" '^installing: \([0-9]*\) packages.*')" \
        "$(told "$image" '^installing: [0-9]* packages, \([0-9]*\) entries.*')" \
        "$(told "$image" '^leaving out what nothing reaches: .*, \([0-9.]* [kMG]*B\).*')" \
        "$(told "$image" '^compressing base ([^)]*): \([0-9.]* [kMG]*B\).*')" \
        "$(megabytes "$work/out-$image/initrd")" \
        "$(median "cold-$image" 1)" "$(median "cold-$image" 2)" "$(median "same-$image" 1)"
}

images="offline offline-44"
mkdir -p "$work/images"
for image in $images; do
    printf 'include = ["%s"]\n' "$checkout/images/$image.toml" >"$work/images/$image.toml"
    "$ocinitrd" lock --quiet --engine podman "$work/images/$image.toml" >/dev/null
    build cold "$image" && rm "$work/cold-$image.times"
done
for _ in $(seq "$RUNS"); do
    for image in $images; do
        forget_results
        rm -rf "$work/out-$image"
        build cold "$image"
        build same "$image"
    done
done

echo "$machine, median of $RUNS runs:"
echo
echo "| image | packages | entries | left out | base, zstd:3 | initrd | all anew | CPU time | nothing changed |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
for image in $images; do
    row "$image"
done
