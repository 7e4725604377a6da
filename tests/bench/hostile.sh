#!/bin/bash
# What files cost that are small and were made to cost much: time and peak memory of the program on each.
#
#   tests/bench/hostile.sh [PROGRAM] [NAME]...      default: target/release/ocinitrd, and all files
#
# Prints a Markdown table. The files are made by the example `hostile` (tests/bench/hostile), in $TMPDIR (default /var/tmp), which needs
# room for some 300 MB; those in the directory $INPUTS are taken instead, if it is set. Seconds are CPU time. A run ends after LIMIT seconds
# of wall clock (default 150), or where it needs more than 12 GB of address space.
set -euo pipefail

checkout=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
program=$(realpath "${1:-$checkout/target/release/ocinitrd}")
shift || true
limit=${LIMIT:-150}
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

inputs=${INPUTS:-$work/inputs}
[ -n "${INPUTS:-}" ] || cargo run --quiet --manifest-path "$checkout/Cargo.toml" --example hostile -- "$inputs" "$@"

# run FILE ARGUMENT...: a line of the table.
run() {
    local file=$1 result="" status=0
    shift
    /usr/bin/time -o "$work/time" -f '%U %S %M' timeout "$limit" prlimit --as=12000000000 "$program" "$@" >/dev/null 2>"$work/stderr" ||
        status=$?
    read -r user system peak_kib < <(tail -n 1 "$work/time")
    seconds=$(awk "BEGIN {print $user + $system}")
    result=$(grep -m 1 . "$work/stderr" | sed "s|$inputs/||g; s/|/\\\\|/g" | cut -c 1-100) || result="ok"
    [ "$status" != 124 ] || result="not finished"
    printf '| %s | %s | `%s` | %.1f | %.0f | %s |\n' "$file" "$(stat -c %s "$inputs/$file")" \
        "$(echo "$*" | sed "s|$inputs/||g")" "$seconds" "$((peak_kib * 1024 / 1000000))" "$result"
}

echo "| file | bytes | command | seconds | peak, MB | result |"
echo "|---|---:|---|---:|---:|---|"
for file in "$inputs"/*; do
    name=$(basename "$file")
    case $name in
    million-a.zst)
        run "$name" inspect "$file"
        run "$name" inspect --list "$file"
        run "$name" check "$file" --needs ext4
        ;;
    million-*) [ ! -e "$inputs/million-a.zst" ] || run "$name" diff "$inputs/million-a.zst" "$file" ;;
    builtin.zst) run "$name" check "$file" --needs ext4 ;;
    *.efi) run "$name" uki inspect "$file" ;;
    *)
        run "$name" inspect "$file"
        run "$name" check "$file" --needs ext4
        run "$name" diff "$file" "$file"
        ;;
    esac
done
