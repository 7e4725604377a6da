#!/bin/bash
# Times and sizes of `ocinitrd build offline` beside mkosi and dracut building theirs, in containers. Prints Markdown tables.
#
# Usage: rivals.sh [OCINITRD]      default: target/release/ocinitrd
#
# The rivals are those of Debian trixie, in the image of rival-image.sh, which is made once. Builds take turns, 3 times:
#   ours          all anew, rpms fetched and verified, kernel from its rpms
#   ours-host     another kernel with the modules of host.modules, over a base that is there, without LVM and RAID
#   mkosi-rpms    the packages of ours, from the same repository, with dnf 4
#   mkosi-debs    mkosi's own initrd definition, from Debian's packages, with apt
#   dracut        --no-hostonly, with the parts below
#   dracut-host   --hostonly, small, with the modules of host.modules
# Compression is zstd -3 for the times, zstd -19 for the sizes. For the sizes there is also ours-same, ours with dracut's modules.
# mkosi needs a privileged container; where that cannot be had its rows are left out, and that is said.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/bench/rival-image.sh
. "$(dirname "$0")/rival-image.sh"

RUNS=${OCINITRD_BENCH_RUNS:-3}
SIZE_LEVEL=${OCINITRD_BENCH_SIZE_LEVEL:-19}
DRACUT_HOST_PARTS="systemd base rootfs-block kernel-modules fs-lib udev-rules shutdown"

# command_of NAME LEVEL: into the array `command`.
command_of() {
    local level=$2 names
    case $1 in
    ours) command=("$ocinitrd" build "$work/images/offline.toml" -O "$work/out-ours" --segments --locked --engine podman --compress "zstd:$2") ;;
    ours-same) command=("$ocinitrd" build "$work/images/same.toml" -O "$work/out-ours-same" --engine podman --compress "zstd:$2") ;;
    ours-host) command=("$ocinitrd" build "$work/images/host.toml" -O "$work/out-ours-host" --locked --engine podman) ;;
    mkosi-rpms)
        names=$(sed 's/^/--package=/' "$work/packages" | tr '\n' ' ')
        mkosi "$1" /mkosi-initrd "$level" "--distribution=fedora --release=44 --local-mirror=file:///repo $names" ;;
    mkosi-debs) mkosi_of_debs "$1" "$level" ;;
    dracut) generic_dracut "$1" "$level" ;;
    dracut-host)
        dracut "$1" "$level" "--hostonly --no-hostonly-default-device -m '$DRACUT_HOST_PARTS' \
            --drivers '$(sed '/^#/d' "$checkout/tests/bench/host.modules" | tr '\n' ' ')'" ;;
    esac
}

# turn NAME LEVEL: one build, measured.
turn() {
    case $1 in
    ours) forget_results && rm -rf "$work/out-ours" ;;
    # The base is there, and nothing of the kernel is to be.
    ours-host)
        rm -rf "$work/out-base"
        run_measured prepare "$ocinitrd" build "$work/images/base.toml" -O "$work/out-base" --locked --engine podman
        rm -rf "$work/cache/ocinitrd/cache/kernel" "$work/out-ours-host"
        ;;
    esac
    command_of "$1" "$2"
    run_measured "$1" "${command[@]}"
}

# turns LEVEL NAME...: of those names that are in `running`. What cannot run here is left out from then on, aloud.
turns() {
    local level=$1 name
    shift
    for name in "$@"; do
        [[ " ${running[*]} " == *" $name "* ]] || continue
        turn "$name" "$level" && continue
        [[ $name != ours* ]] || exit 1
        echo "$0: $name cannot run here, it is left out" >&2
        left_out+=("$name")
        mapfile -t running < <(printf '%s\n' "${running[@]}" | grep -vx "$name")
    done
}

prepare() {
    mkdir "$work/out-rivals"
    definition offline
    plain_definition host "modules = $(host_modules)"
    plain_definition base 'modules = ["-*"]'
    run_measured prepare "$ocinitrd" lock "$work/images/host.toml" --engine podman
    run_measured prepare "$ocinitrd" lock "$work/images/base.toml" --engine podman
    run_measured prepare "$ocinitrd" build "$work/images/offline.toml" -O "$work/out-ours" --engine podman
    rm -f "$work/prepare.times"
    # The packages of the base, as dnf takes them.
    sed -n '/^  "packages"/,/^  \]/s/^ *"name": "\(.*\)",*$/\1/p' "$work/out-ours/manifest.json" >"$work/packages"
    [ -s "$work/packages" ] || { echo "$0: the manifest names no packages" >&2; exit 1; }
}

initrd_of() {
    case $1 in
    ours*) echo "$work/out-$1/initrd" ;;
    *) echo "$work/out-rivals/$1" ;;
    esac
}

# names_of_modules NAME: in its initrd.
names_of_modules() {
    "$ocinitrd" inspect --list "$(initrd_of "$1")" | sed -n 's,.*/\([^/]*\)\.ko\(\.[a-z0-9]*\)*$,\1,p'
}

modules_in() {
    "$ocinitrd" inspect --list "$(initrd_of "$1")" | grep -c '\.ko\(\.[a-z0-9]*\)*$' || true
}

# time_row NAME COUNTERPART: the ratios are those of our counterpart to it.
time_row() {
    awk -v name="$1" -v wall="$(median "$1" 1)" -v cpu="$(median "$1" 2)" -v our_wall="$(median "$2" 1)" -v our_cpu="$(median "$2" 2)" \
        -v modules="$(modules_in "$1")" -v ours="$2" \
        'BEGIN { printf "| %s | %.2f s | %.2f s | %d | %s | %.2f | %.2f |\n", name, wall, cpu, modules, ours, our_wall / wall, our_cpu / cpu }'
}

size_row() {
    local size dracut
    size=$(megabytes "${@:3}")
    dracut=$(megabytes "$(initrd_of dracut)" 2>/dev/null) || dracut=
    echo "| $1 | $2 | $size MB | $(awk -v size="$size" -v dracut="$dracut" 'BEGIN { if (dracut) printf "%.2f", size / dracut }') |"
}

begin "$@"
# Not the user's: set after the keyring's place was told by it.
cache_home=$work/cache
make_image
export XDG_CACHE_HOME=$cache_home
left_out=()
running=(ours ours-host mkosi-rpms mkosi-debs dracut dracut-host)
prepare
for _ in $(seq "$RUNS"); do
    turns 3 ours ours-host mkosi-rpms mkosi-debs dracut dracut-host
done

echo "$machine, median of $RUNS runs that take turns, zstd -3; $(wc -l <"$work/packages") packages in ours and mkosi-rpms:"
echo
echo "| | time | CPU time | modules | beside | its time / this | its CPU / this |"
echo "|---|---:|---:|---:|---|---:|---:|"
for name in "${running[@]}"; do
    case $name in
    *-host) time_row "$name" ours-host ;;
    *) time_row "$name" ours ;;
    esac
done
for name in "${left_out[@]}"; do
    echo "| $name: could not run here | | | | | | |"
done

turns "$SIZE_LEVEL" ours mkosi-rpms mkosi-debs dracut
if [[ " ${running[*]} " == *" dracut "* ]]; then
    # shellcheck disable=SC2046
    definition same '[kernel]' "modules = $(modules_alone $(names_of_modules dracut))"
    running+=(ours-same)
    turns "$SIZE_LEVEL" ours-same
fi
echo
echo "| | modules | size, zstd -$SIZE_LEVEL | beside dracut |"
echo "|---|---:|---:|---:|"
size_row "ours, base segment" 0 "$work"/out-ours/base.cpio*
size_row "ours, modules segment" "$(modules_in ours)" "$work"/out-ours/modules-*.cpio*
for name in "${running[@]}"; do
    [[ $name == *-host ]] || size_row "$name" "$(modules_in "$name")" "$(initrd_of "$name")"
done
