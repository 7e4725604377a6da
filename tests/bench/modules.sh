#!/bin/bash
# Measures module selection, and what each way of storing the default selection's modules costs in a segment.
#
# usage: tests/bench/modules.sh
#   OCINITRD_TEST_KERNEL_TREE  a directory with usr/lib/modules/KVER; without it, that of the newest kernel of the offline repository
# Needs bash, bsdtar, cargo, cpio and zstd. Prints the times of selection, then a table of sizes and times.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"
cd "$checkout"
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

if [ -z "${OCINITRD_TEST_KERNEL_TREE-}" ]; then
    require_offline
    export OCINITRD_TEST_KERNEL_TREE=$output/kernel
    mkdir "$OCINITRD_TEST_KERNEL_TREE"
    newest=$(ls target/offline/repo/Packages | sed -n 's/^kernel-core-//p' | sort -V | tail -1)
    for part in core modules modules-core; do
        bsdtar -xf "target/offline/repo/Packages/kernel-$part-$newest" -C "$OCINITRD_TEST_KERNEL_TREE"
    done
fi

OCINITRD_BENCH_OUTPUT=$output cargo test -q --release --test integration -- --ignored --nocapture modules::measure |
    grep -E '^(select|index|decompress) '

archive() {
    (cd "$output/$1" && find usr -print0 | sort -z | cpio --quiet -0 -o -H newc -R 0:0 > "$output/$1.cpio")
}

# Prints a row: what it is, its size, CPU seconds to make it with the command given, seconds to unpack it into memory.
row() {
    local name=$1 file=$2 unpack=$3 made taken
    shift 3
    made=$( { TIMEFORMAT=%U; time "$@"; } 2>&1 )
    taken=$( { TIMEFORMAT=%R; time $unpack "$file" > /dev/null; } 2>&1 )
    printf '%-28s %9.1f MB %8s s %8s s\n' "$name" "$(wc -c < "$file" | awk '{print $1 / 1e6}')" "$made" "$taken"
}

archive kept
archive decompressed
printf '\n%-28s %12s %10s %10s\n' 'segment' 'size' 'CPU' 'unpack'
for form in kept decompressed; do
    cpio=$output/$form.cpio
    row "$form, plain cpio" "$cpio" cat true
    for level in 3 19; do
        row "$form, zstd -$level" "$cpio.$level" 'zstd -q -dc' zstd -q -T1 "-$level" -o "$cpio.$level" "$cpio"
    done
done
