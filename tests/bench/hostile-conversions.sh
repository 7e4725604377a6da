#!/bin/bash
# What small files cost `convert`, `store import` and whatever reads definitions, which were made to cost much: time and peak memory
# of the program on each.
#
#   tests/bench/hostile-conversions.sh [PROGRAM] [NAME]...      default: target/release/ocinitrd, and all of them
#
# Prints a Markdown table. Needs some 100 MB in $TMPDIR (default /var/tmp). Seconds are CPU time. A run ends after LIMIT seconds of wall
# clock (default 150), or where it needs more than 12 GB of address space.
set -euo pipefail

checkout=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
program=$(realpath "${1:-$checkout/target/release/ocinitrd}")
shift || true
wanted=" $* "
limit=${LIMIT:-150}
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache
mkdir -m 700 "$work/cache"

digest() { sha256sum "$1" | cut -d ' ' -f 1; }

# blob FILE: takes it into the layout in the current directory; `descriptor` describes it as of the given type.
blob() { mv "$1" "blobs/sha256/$(digest "$1")"; }
descriptor() { printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' "$2" "$(digest "$1")" "$(stat -c %s "$1")"; }

# joined COUNT TEXT: so many of it, with commas between.
joined() {
    local list
    list=$(printf "%.0s,$2" $(seq "$1"))
    printf '%s' "${list:1}"
}

layout() {
    mkdir -p "$1/blobs/sha256"
    cd "$1"
    echo '{"imageLayoutVersion":"1.0.0"}' >oci-layout
}

# image LAYERS DIFF_IDS: the image of these layers becomes that of the layout.
image() {
    printf '{"rootfs":{"type":"layers","diff_ids":[%s]}}' "$2" >config
    local config=$(descriptor config config.v1+json)
    blob config
    printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' "$config" "$1" >manifest
    local manifest=$(descriptor manifest manifest.v1+json)
    blob manifest
    printf '{"schemaVersion":2,"manifests":[%s]}' "$manifest" >index.json
}

# Each index names the next one 60 times.
make_indexes() {
    layout "$work/indexes"
    image "" ""
    local named
    named=$(sed 's/.*\[\(.*\)\]}/\1/' index.json)
    for level in 1 2 3; do
        printf '{"schemaVersion":2,"manifests":[%s]}' "$(joined 60 "$named")" >level
        named=$(descriptor level index.v1+json)
        blob level
    done
    printf '{"schemaVersion":2,"manifests":[%s]}' "$(joined 60 "$named")" >index.json
}

make_layers() {
    layout "$work/layers"
    local layers="" ids="" number
    for number in $(seq 1200); do
        echo "$number" >"file$number"
        tar --sort=name --owner=0 --group=0 --mtime=@0 -cf layer "file$number"
        rm "file$number"
        layers+=",$(descriptor layer layer.v1.tar)"
        ids+=",\"sha256:$(digest layer)\""
        blob layer
    done
    image "${layers:1}" "${ids:1}"
}

# An archive with a manifest.json of 4 GiB - 1, which takes no room.
make_manifest() {
    cd "$work"
    truncate -s 4294967295 manifest.json
    tar -cf - manifest.json | dd of=manifest bs=1M iflag=fullblock conv=sparse status=none
    rm manifest.json
}

padded() {
    printf '%s' "$1"
    head -c $((100 - ${#1})) /dev/zero
}

# header NAME TYPE SIZE TARGET: one of a tar archive.
header() {
    cd "$work"
    {
        padded "$1"
        printf '0000644\0000000000\0000000000\000%011o\00000000000000\000        %s' "$3" "$2"
        padded "$4"
        printf 'ustar\00000'
    } >block
    truncate -s 512 block
    local sum
    sum=$(od -An -v -tu1 block | tr -s ' ' '\n' | awk '{sum += $1} END {print sum}')
    printf '%06o\000 ' "$sum" | dd of=block bs=1 seek=148 conv=notrunc status=none
    cat block
}

# One file with an attribute of 4 MB, and 3,000 hard links to it.
make_links() {
    cd "$work"
    local value=4000000
    {
        header x x $((value + 29)) ""
        printf '%s SCHILY.xattr.user.a=' $((value + 29))
        head -c "$value" /dev/zero | tr '\0' v
        printf '\n'
        head -c $(((512 - (value + 29) % 512) % 512)) /dev/zero
        header file 0 0 ""
        for number in $(seq 3000); do header "link$number" 1 0 file; done
        head -c 1024 /dev/zero
    } | gzip -9 >links.gz
}

word() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)))"; }

# An rpm with 2 MB of data, all of which each of its columns of files refers to.
make_rpm() {
    mkdir "$work/rpm"
    cd "$work/rpm"
    local bytes=2000000 tags=() tag
    for tag in 1000 1001 1002 1022; do tags+=("$tag 6 0 1"); done
    for tag in 1117 1118 1035 1036 1039 1040 5010; do tags+=("$tag 8 0 $bytes"); done
    for tag in 1116 1028 1030 1033 1034 1037 1095 1096; do tags+=("$tag 2 0 $bytes"); done
    {
        printf '\x8e\xad\xe8\x01\0\0\0\0'
        word ${#tags[@]}
        word $bytes
        for tag in "${tags[@]}"; do for number in $tag; do word "$number"; done; done
        head -c $bytes /dev/zero
    } >header
    {
        printf '\xed\xab\xee\xdb'
        head -c 92 /dev/zero
        printf '\x8e\xad\xe8\x01\0\0\0\0'
        for number in 1 65 273 6 0 1; do word "$number"; done
        printf '%s\0\0\0\0\0\0\0\0' "$(digest header)"
        cat header
    } >shared.rpm
    rm header
}

definition() { printf 'releasever = "44"\n[builder]\nimage = "a.example/b@sha256:%064d"\n[repos.r]\nbaseurl = "r"\ngpg_keys = ["k"]\n[packages]\ninstall = ["systemd"]\n' 0; }

# 24 files that include the next one twice each.
make_twice() {
    mkdir -p "$work/twice/images"
    cd "$work/twice/images"
    for number in $(seq 24); do echo "include = [\"$((number + 1)).toml\", \"$((number + 1)).toml\"]" >"$number.toml"; done
    definition >25.toml
}

make_nested() {
    mkdir -p "$work/nested/images"
    cd "$work/nested/images"
    for number in $(seq 20000); do echo "include = [\"$((number + 1)).toml\"]" >"$number.toml"; done
    definition >20001.toml
}

make_profiles() {
    mkdir -p "$work/profiles/images"
    cd "$work/profiles/images"
    {
        definition
        for number in $(seq 5000); do printf '[profiles.p%d]\ninclude_profiles = ["p%d"]\n' "$number" $((number + 1)); done
        echo "[profiles.p5001]"
    } >1.toml
}

# run NAME BYTES ARGUMENT...: a line of the table.
run() {
    local name=$1 bytes=$2 result="" status=0
    shift 2
    (ulimit -n 1024 && /usr/bin/time -o "$work/time" -f '%U %S %M' timeout "$limit" prlimit --as=12000000000 "$program" "$@") \
        >/dev/null 2>"$work/stderr" || status=$?
    read -r user system peak_kib < <(tail -n 1 "$work/time")
    result=$(grep -m 1 -E '^error|panicked|overflowed' "$work/stderr" | sed "s|$work/||g; s/|/\\\\|/g" | cut -c 1-160) || result="ok"
    [ "$status" != 124 ] || result="not finished"
    printf '| %s | %s | `%s` | %.1f | %.0f | %s |\n' "$name" "$bytes" "$(echo "$*" | sed "s|$work/||g")" \
        "$(awk -v own="$user" -v kernel="$system" 'BEGIN {print own + kernel}')" "$((peak_kib * 1024 / 1000000))" "$result"
}

measure() {
    local name=$1 place=$2
    shift 2
    [[ $wanted = "  " || $wanted = *" $name "* ]] || return 0
    (set -e; "make_$name")
    local bytes
    bytes=$(find "$work/$place" -type f -printf '%b\n' | awk '{sum += $1 * 512} END {print sum}')
    cd "$work"
    [ ! -d "$place/images" ] || cd "$place"
    run "$name" "$bytes" "$@"
    rm -rf "${work:?}/$place"
}

echo "| input | bytes on disk | command | seconds | peak, MB | result |"
echo "|---|---:|---|---:|---:|---|"
measure indexes indexes convert "$work/indexes" -o "$work/initrd"
measure layers layers convert "$work/layers" -o "$work/initrd"
measure manifest manifest convert "$work/manifest" -o "$work/initrd" --compress none
measure links links.gz convert "$work/links.gz" -o "$work/initrd"
measure rpm rpm store import "$work/rpm"
measure twice twice lock 1 --check
measure nested nested lock 1 --check
measure profiles profiles lock 1 --check
