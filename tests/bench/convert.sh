#!/bin/bash
# Compares the conversion of a root file system to a cpio archive: GNU cpio, bsdtar, 3cpio and `ocinitrd convert`, over one tree in the
# page cache, with plain reading and copying of the same bytes as the limits. Prints a Markdown table: medians of 5 runs that take turns.
#
# Usage: convert.sh OCINITRD [TAR]
#
# Without TAR the tree is about 320 MB of this system's /usr/bin and /usr/lib. 3cpio (crate `threecpio`) is built into the cache once; where
# that cannot be done its row says so. Everything is written to $TMPDIR [default: /dev/shm], about three times the size of the tree: in memory,
# because ocinitrd alone waits until its output is on the disk.
set -euo pipefail

RUNS=5
TREE_BYTES=320000000
THREECPIO_VERSION=0.14.0

ocinitrd=$(realpath "$1")
given_tar=${2-}
work=$(mktemp -d "${TMPDIR:-/dev/shm}/ocinitrd-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export LC_ALL=C

# About TREE_BYTES of regular files, the symlinks between them, and nothing else.
make_tree() {
    find /usr/bin /usr/lib -xdev -readable \( -type f -o -type l \) -printf '%s\t%p\n' | sort -t "$(printf '\t')" -k 2 |
        awk -F '\t' -v limit="$TREE_BYTES" '$1 < limit / 10 && sum + $1 < limit { sum += $1; print substr($2, 2) }' >"$work/list"
    tar -C / -cf - --no-recursion -T "$work/list" | tar -C "$work/tree" -xf -
}

threecpio() {
    if command -v 3cpio; then
        return
    fi
    local root=${XDG_CACHE_HOME:-$HOME/.cache}/ocinitrd/bench
    if [ ! -x "$root/bin/3cpio" ]; then
        cargo install --quiet --locked --root "$root" threecpio --version "$THREECPIO_VERSION" >&2 || return 0
    fi
    echo "$root/bin/3cpio"
}

run() {
    case $1 in
    read) dd if="$work/tree.tar" of=/dev/null bs=1M status=none ;;
    copy) dd if="$work/tree.tar" of="$work/out" bs=1M status=none ;;
    gnu-cpio) (cd "$work/tree" && cpio --quiet -o -H newc <"$work/names" >"$work/out") ;;
    bsdtar) bsdtar -C "$work/tree" -cf "$work/out" --format newc -n -T "$work/names" ;;
    bsdtar-of-tar) bsdtar -cf "$work/out" --format newc "@$work/tree.tar" ;;
    3cpio) "$threecpio" -c -C "$work/tree" "$work/out" <"$work/names" ;;
    3cpio-digest) "$threecpio" -c -C "$work/tree" "$work/out" <"$work/names" && openssl dgst -sha256 "$work/out" >/dev/null ;;
    ocinitrd) "$ocinitrd" convert "$work/tree.tar" --compress none -o "$work/out" >/dev/null ;;
    esac
}

# Appends a line to the program's file: seconds of wall clock, CPU seconds of the user, of the system.
measure() {
    rm -f "$work/out"
    local TIMEFORMAT='%R %U %S'
    { time run "$1" 2>"$work/stderr"; } 2>>"$work/times.$1" || { cat "$work/stderr" >&2; exit 1; }
}

# median PROGRAM EXPRESSION: the expression is awk's, over the three times.
median() {
    awk "{ printf \"%.3f\\n\", $2 }" "$work/times.$1" | sort -n | sed -n "$(((RUNS + 1) / 2))p"
}

row() {
    awk -v name="$2" -v time="$(median "$1" '$1')" -v cpu="$(median "$1" '$2 + $3')" -v gnu="$(median gnu-cpio '$1')" \
        -v megabytes="$((archive_bytes / 1000000))" \
        'BEGIN { printf "| %s | %.2f s | %.2f s | %.0f MB/s | %.1f |\n", name, time, cpu, megabytes / time, gnu / time }'
}

mkdir "$work/tree"
if [ -n "$given_tar" ]; then
    tar -C "$work/tree" -xf "$given_tar"
else
    make_tree
fi
tar -C "$work/tree" --sort=name --numeric-owner -cf "$work/tree.tar" .
(cd "$work/tree" && find . | sort) >"$work/names"
threecpio=$(threecpio)
programs=(read copy gnu-cpio bsdtar bsdtar-of-tar)
[ -z "$threecpio" ] || programs+=(3cpio)
# ocinitrd tells the archive's digest: what that costs beside 3cpio. sha256sum does not use the processor's instructions everywhere.
[ -z "$threecpio" ] || ! command -v openssl >/dev/null || programs+=(3cpio-digest)
programs+=(ocinitrd)

# The first turn fills the page cache and is not counted.
for program in "${programs[@]}"; do
    measure "$program"
    [ "$program" != gnu-cpio ] || archive_bytes=$(stat -c %s "$work/out")
    rm "$work/times.$program"
done
for _ in $(seq "$RUNS"); do
    for program in "${programs[@]}"; do
        measure "$program"
    done
done

echo "$(wc -l <"$work/names") entries, $((archive_bytes / 1000000)) MB as cpio archive, $(nproc) cores, median of $RUNS runs:"
echo
echo "| | time | CPU time | speed | times GNU cpio |"
echo "|---|---|---|---|---|"
row read "reading the tar archive (dd)"
row copy "copying the tar archive (dd)"
row gnu-cpio "GNU cpio, of files"
row bsdtar "bsdtar, of files"
row bsdtar-of-tar "bsdtar, of the tar archive"
for program in "${programs[@]}"; do
    case $program in
    3cpio) row 3cpio "3cpio $THREECPIO_VERSION, of files" ;;
    3cpio-digest) row 3cpio-digest "3cpio $THREECPIO_VERSION, of files, then openssl dgst -sha256" ;;
    esac
done
[ -n "$threecpio" ] || echo "| 3cpio | could not be built | | | |"
row ocinitrd "ocinitrd convert, of the tar archive, with its SHA-256"
