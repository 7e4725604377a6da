#!/bin/bash
# What each codec and level costs for the base segment of the image `offline`: size, time to make, time to decompress. Prints a Markdown
# table, and says whether one CPU and all of them give the same bytes.
#
# Usage: compression.sh [OCINITRD]      default: target/release/ocinitrd
#
# The base segment is built once, and made a tar archive; each row is `ocinitrd convert` of it, so the row "none" is what is no compressing.
# Rows are medians of 3 runs, those that take long are of one. Decompressing is done by the codec's own program with one thread, as a kernel
# does it. Everything is written to $TMPDIR [default: /var/tmp], 2 GB.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"

FAST=(none lz4 gzip:1 gzip:6 zstd:1 zstd:3 zstd:6 zstd:9 zstd:12)
SLOW=(zstd:15 zstd:19 xz:6)
RUNS=3

begin "$@"
export XDG_CACHE_HOME=$work/cache

make_layer() {
    definition offline
    run_measured build "$ocinitrd" build "$work/images/offline.toml" -O "$work/out" --segments --compress none --engine podman
    bsdtar -cf "$work/base.tar" --format pax "@$work/out/base.cpio"
    # Enough entries for several workers, and so little that even the slowest level is done soon.
    bsdtar -cf "$work/part.tar" --format pax --include './usr/bin/*' --include 'usr/bin/*' "@$work/out/base.cpio"
}

decompress() {
    case ${1%:*} in
    none) cat "$2" ;;
    lz4) lz4 -q -dc "$2" ;;
    gzip) gzip -dc "$2" ;;
    xz) xz -T1 -dc "$2" ;;
    zstd) zstd -q -dc "$2" ;;
    esac >/dev/null
}
export -f decompress

# measure_codec CODEC RUNS
measure_codec() {
    for _ in $(seq "$2"); do
        run_measured "$1" "$ocinitrd" convert "$work/base.tar" --compress "$1" -o "$work/$1.out"
        run_measured "$1-unpack" bash -c 'decompress "$@"' decompress "$1" "$work/$1.out"
    done
    megabytes "$work/$1.out" >"$work/$1.size"
    rm "$work/$1.out"
}

# The digests of a small layer made with all CPUs and with one.
same_bytes() {
    "$ocinitrd" convert "$work/part.tar" --compress "$1" -o "$work/all.out" >/dev/null 2>&1
    taskset -c "$first_cpu" "$ocinitrd" convert "$work/part.tar" --compress "$1" -o "$work/one.out" >/dev/null 2>&1
    if cmp -s "$work/all.out" "$work/one.out"; then echo yes; else echo NO; fi
}

row() {
    printf '| %s | %s MB | %.2f s | %.2f s | %.2f s | %s |\n' "$1" "$(cat "$work/$1.size")" "$(median "$1" 1)" "$(median "$1" 2)" \
        "$(median "$1-unpack" 2)" "$(same_bytes "$1")"
}

first_cpu=$(taskset -pc $$ | sed 's/.*: *\([0-9]*\).*/\1/')
make_layer
for codec in "${FAST[@]}"; do
    measure_codec "$codec" "$RUNS"
done
for codec in "${SLOW[@]}"; do
    measure_codec "$codec" 1
done

echo "Base segment of $(megabytes "$work/out/base.cpio") MB, $machine, median of $RUNS runs (${SLOW[*]}: one run):"
echo
echo "| codec:level | size | time | CPU time | CPU to decompress | same bytes with one CPU ($(megabytes "$work/part.tar") MB of it) |"
echo "|---|---:|---:|---:|---:|---|"
for codec in "${FAST[@]}" "${SLOW[@]}"; do
    row "$codec"
done
