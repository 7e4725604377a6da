#!/bin/bash
# Peak memory of `ocinitrd convert --compress none` (so none of it is a compressor's) for layers of several sizes, in
# few large files and in many small ones, plain and zstd, from a pipe.
#
#   tests/bench/memory.sh [PROGRAM] [SIZE_MIB]...      default: target/release/ocinitrd 256 1024 4096
#
# Prints a Markdown table; exits with 1 if a peak is 100 MB or more. Needs room on disk for two of the largest layer,
# in $TMPDIR (default /var/tmp), and GNU tar and zstd. The content is zeros: nothing here depends on it.
set -euo pipefail

program=$(realpath "${1:-target/release/ocinitrd}")
shift || true
sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(256 1024 4096)
limit_kib=$((100 * 1000 * 1000 / 1024))
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

# Runs the program on standard input; VmHWM is the kernel's own high-water mark, read until the process is gone.
peak_kib() {
    local status peak=0 seen process
    "$program" convert - -o "$work/initrd" --compress none <"$work/pipe" >"$work/log" 2>&1 &
    process=$!
    while seen=$(awk '/^VmHWM/ {print $2}' "/proc/$process/status" 2>/dev/null); do
        [ -z "$seen" ] || [ "$seen" -le "$peak" ] || peak=$seen
        kill -0 "$process" 2>/dev/null || break
        sleep 0.02
    done
    wait "$process" && status=0 || status=$?
    [ "$status" = 0 ] || { cat "$work/log" >&2; exit 1; }
    echo "$peak"
}

measure() {
    local size_mib=$1 file_kib=$2 filter=$3 files start peak
    files=$((size_mib * 1024 / file_kib))
    rm -rf "$work/tree" && mkdir "$work/tree"
    # Files with holes take no room; tar without --sparse writes their zeros out.
    (cd "$work/tree" && seq -f 'd%.0f' 0 $(((files - 1) / 1000)) | xargs mkdir &&
        seq 0 $((files - 1)) | awk '{printf "d%d/f%d\n", $1 / 1000, $1}' | xargs truncate -s "${file_kib}K")
    start=$(date +%s.%N)
    tar -C "$work/tree" -c . | $filter >"$work/pipe" &
    peak=$(peak_kib)
    wait
    awk -v size="$size_mib" -v files="$files" -v filter="$filter" -v peak="$peak" -v start="$start" -v end="$(date +%s.%N)" \
        'BEGIN {printf "| %.2f | %d | %s | %.1f | %.1f |\n", size / 1024, files, filter == "cat" ? "plain" : "zstd",
                peak * 1024 / 1e6, end - start}'
    [ "$peak" -lt "$limit_kib" ] || exceeded=1
}

mkfifo "$work/pipe"
exceeded=0
echo "| layer, GiB | files | input | peak, MB | seconds |"
echo "|---:|---:|---|---:|---:|"
for size in "${sizes[@]}"; do
    measure "$size" 65536 cat
    measure "$size" 32 cat
    measure "$size" 65536 "zstd -1 -c"
done
[ "$exceeded" = 0 ] || { echo "a peak is 100 MB or more" >&2; exit 1; }
