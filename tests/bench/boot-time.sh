#!/bin/bash
# How long a guest takes from its kernel's start to its root's init, with our initrd and with those of dracut and mkosi: all with the same
# kernel, the same modules to choose from and zstd -3. The guest's clock counts instructions (`ocinitrd boot --count-instructions`), so the
# times hardly depend on the host and on what else it does; each boot is done twice, and both must agree within 2 %. The shorter one counts,
# as a busy host only adds to it: the guest waits for its disk. Prints a Markdown table.
#
# Usage: boot-time.sh [--trace] [OCINITRD]      default: target/release/ocinitrd; --trace lists where the time of ours goes, and no rivals
#
# The roots are ext4 in a partition, in a LUKS volume whose passphrase is a credential, and on LVM. The rivals are those of rival-image.sh:
#   dracut        --no-hostonly, with the parts of rivals.sh
#   mkosi-debs    mkosi's own initrd definition, from Debian's packages
#   dracut-host   --hostonly, with the kernel modules of such a guest and the parts that the root takes beside dracut's default ones; another
#                 initrd for each root. Beside it is ours-host, with the same modules and all that ours has else
# mkosi needs a privileged container; where that cannot be had its row is left out, and that is said.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/bench/rival-image.sh
. "$(dirname "$0")/rival-image.sh"

RUNS=2
TOLERANCE=0.02
LEVEL=3
names=(ours dracut mkosi-debs ours-host dracut-host)
ROOTS=(ext4-uuid luks-credential lvm)
# The guest's console is on its first serial port, its disks are virtio's.
HOST_MODULES="virtio_pci virtio_blk ext4 dm_mod dm_crypt xts ecb aesni_intel"

# host_parts ROOT: what dracut would add by itself on a machine with this root.
host_parts() {
    case $1 in
    luks-credential) echo "crypt systemd-cryptsetup dm" ;;
    lvm) echo "lvm dm" ;;
    esac
}

# prepare: our initrds, and what makes the disks.
prepare() {
    mkdir "$work/out-rivals" "$work/log"
    definition offline
    run_measured prepare "$ocinitrd" lock "$work/images/offline.toml" --engine podman
    run_measured prepare "$ocinitrd" build "$work/images/offline.toml" -O "$work/out-ours" --engine podman --compress "zstd:$LEVEL"
    definition host '[kernel]' "modules = [\"-*\", \"${HOST_MODULES// /\", \"}\"]"
    run_measured prepare "$ocinitrd" lock "$work/images/host.toml" --engine podman
    run_measured prepare "$ocinitrd" build "$work/images/host.toml" -O "$work/out-ours-host" --engine podman --compress "zstd:$LEVEL"
    run_measured prepare "$ocinitrd" build "$work/images/offline.toml" -O "$work/out-maker" --engine podman --profile disk-maker
    take_our_kernel "$work/out-ours"
}

# build NAME: an initrd of a rival, or several.
build() {
    local root
    case $1 in
    dracut)
        generic_dracut "$1" "$LEVEL"
        run_measured "$1" "${command[@]}" ;;
    dracut-host)
        for root in "${ROOTS[@]}"; do
            dracut "$1-$root" "$LEVEL" "--hostonly --no-hostonly-default-device --add '$(host_parts "$root")' --drivers '$HOST_MODULES'"
            run_measured "$1" "${command[@]}" || return
        done ;;
    mkosi-debs)
        mkosi_of_debs "$1" "$LEVEL"
        run_measured "$1" "${command[@]}" ;;
    esac
}

# build_rivals: what cannot run here is left out, aloud.
build_rivals() {
    local name
    for name in "${names[@]}"; do
        build "$name" && continue
        [ "$name" = mkosi-debs ] || exit 1
        echo "$0: $name cannot run here, it is left out" >&2
        mapfile -t names < <(printf '%s\n' "${names[@]}" | grep -vx "$name")
    done
}

# initrd_of NAME ROOT
initrd_of() {
    case $1 in
    ours*) echo "$work/out-$1/initrd" ;;
    dracut-host) echo "$work/out-rivals/$1-$2" ;;
    *) echo "$work/out-rivals/$1" ;;
    esac
}

# boot NAME ROOT RUN [OPTION]...: a line "NAME ROOT SECONDS" in $work/times; the console goes to $work/log.
boot() {
    local name=$1 root=$2 run=$3 log seconds
    shift 3
    log=$work/log/$name-$run
    # What a rival leaves undone besides, such as a unit that failed, is no matter here.
    "$ocinitrd" boot --quiet --kernel "$work/out-ours/vmlinuz" --initrd "$(initrd_of "$name" "$root")" --disks-by "$work/out-maker" \
        --root "$root" --count-instructions --timeout 900 --log-dir "$log" --json "$@" >"$work/answer-$run" 2>"$work/errors-$run" || true
    seconds=$(sed -n 's/^ *"uptime_seconds": \([0-9.]*\),$/\1/p' "$work/answer-$run")
    if [ -z "$seconds" ]; then
        echo "$0: the root $root does not boot with the initrd of $name:" >&2
        cat "$work/errors-$run" >&2
        return 1
    fi
    echo "$name $root $seconds" >>"$work/times"
}

# boots NAME ROOT: all of them side by side, which changes nothing about their times.
boots() {
    local run pids=()
    for run in $(seq "$RUNS"); do
        boot "$1" "$2" "$run" &
        pids+=($!)
    done
    for run in "${pids[@]}"; do wait "$run"; done
}

# boots_that_agree NAME ROOT: on a busy host a guest waits longer for its disk now and then; then both are done again, once.
boots_that_agree() {
    boots "$1" "$2"
    check_pairs 2>"$work/differing" && return
    cat "$work/differing" >&2
    sed -i "/^$1 $2 /d" "$work/times"
    boots "$1" "$2"
    check_pairs
}

# check_pairs: whether the boots of a kind took the same time.
check_pairs() {
    awk -v tolerance="$TOLERANCE" '
        { key = $1 " " $2; if (!(key in least) || $3 < least[key]) least[key] = $3; if ($3 > most[key]) most[key] = $3 }
        END {
            for (key in least) if (most[key] > least[key] * (1 + tolerance)) {
                printf "the boots of %s differ: %.2f s and %.2f s\n", key, least[key], most[key]; failed = 1
            }
            exit failed
        }' "$work/times" >&2
}

# least NAME ROOT
least() {
    awk -v name="$1" -v root="$2" '$1 == name && $2 == root { printf "%.2f\n", $3 }' "$work/times" | sort -n | head -1
}

modules_in() {
    "$ocinitrd" inspect --list "$(initrd_of "$1" ext4-uuid)" | grep -c '\.ko\(\.[a-z0-9]*\)*$' || true
}

# row NAME COUNTERPART: the ratios are those of our counterpart to it.
row() {
    local root cells="" ratios=""
    for root in "${ROOTS[@]}"; do
        cells+=" $(least "$1" "$root") s |"
        ratios+=" $(awk -v ours="$(least "$2" "$root")" -v theirs="$(least "$1" "$root")" 'BEGIN { printf "%.2f", ours / theirs }') |"
    done
    echo "| $1 | $(megabytes "$(initrd_of "$1" ext4-uuid)") MB | $(modules_in "$1") |$cells $2 |$ratios"
}

print_table() {
    local name
    echo "$machine; Linux $(kernel_version) and its modules for all, zstd -$LEVEL, the shorter of $RUNS boots, 500 million instructions a second:"
    echo
    echo "| initrd | size | modules | plain | LUKS | LVM | beside | its / this: plain | LUKS | LVM |"
    echo "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|"
    for name in "${names[@]}"; do
        case $name in
        *-host) row "$name" ours-host ;;
        *) row "$name" ours ;;
        esac
    done
}

# print_trace: what the kernel and systemd said of ours, with the time since the kernel's start and that since the line before.
print_trace() {
    boot ours ext4-uuid trace --append systemd.log_target=kmsg
    sed -nE 's/^\[ *([0-9.]+)\] (.*)$/\1 \2/p' "$work/log/ours-trace/ext4-uuid.log" | tr -d '\r' | awk '
        /Linux version|Trying to unpack|Freeing initrd memory|Run \/init|ocinitrd: fact uptime|running in system mode|Queued start job|systemd\[1\]: (Starting|Started|Finished|Reached|Mounted|Mounting|Found|Listening)/ {
            line = $0; sub(/^[^ ]* /, "", line); printf "%7.2f  +%.2f  %.110s\n", $1, $1 - before, line; before = $1
        }'
}

trace=
[ "${1-}" != --trace ] || { trace=1; shift; }
begin "$@"
# Not the user's: set after the keyring's place was told by it.
cache_home=$work/cache
[ -n "$trace" ] || make_image
export XDG_CACHE_HOME=$cache_home
prepare
if [ -n "$trace" ]; then
    print_trace
    exit
fi
build_rivals
for root in "${ROOTS[@]}"; do
    for name in "${names[@]}"; do
        boots_that_agree "$name" "$root"
    done
done
print_table
