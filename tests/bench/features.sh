#!/bin/bash
# Which root devices the initrds of dracut and mkosi find, beside ours: the scenarios of `ocinitrd boot --list`, with the same kernel for
# all (that of ours) and the same disks. Prints a Markdown table, and below it why a boot failed. It takes three quarters of an hour.
#
# Usage: features.sh [OCINITRD [NAME...]]      default: target/release/ocinitrd, and all three
#
# A scenario asserts more than that the target runs: the kind of the file system, which devices lie below it, and that no unit failed.
#   ours          the image `offline` with the profile nfs
#   dracut        --no-hostonly, with the parts of rival-image.sh; where there is an array it is named by rd.md.uuid, without which it assembles none
#   mkosi-debs    mkosi's own initrd definition, from Debian's packages
# mkosi needs a privileged container; where that cannot be had its column is left out, and that is said.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/bench/rival-image.sh
. "$(dirname "$0")/rival-image.sh"

LEVEL=3
# The array of the scenarios, as src/boot/guest/disks.sh makes it. rd.auto=1 would find it too, and open LUKS volumes twice; where there
# is no such array dracut waits for it in vain.
NAMED_ARRAY=rd.md.uuid=0c1d2d00:22224000:80000000:00000001

# prepare: our initrd, and what makes and serves the disks.
prepare() {
    mkdir "$work/out-rivals" "$work/log"
    definition offline
    run_measured prepare "$ocinitrd" lock "$work/images/offline.toml" --engine podman
    run_measured prepare "$ocinitrd" build "$work/images/offline.toml" -O "$work/out-ours" --engine podman --profile nfs
    run_measured prepare "$ocinitrd" build "$work/images/offline.toml" -O "$work/out-maker" --engine podman --profile disk-maker
    take_our_kernel "$work/out-ours"
    generic_dracut dracut "$LEVEL"
    run_measured dracut "${command[@]}"
    mkosi_of_debs mkosi-debs "$LEVEL"
    run_measured mkosi-debs "${command[@]}" && return
    echo "$0: mkosi-debs cannot run here, it is left out" >&2
    local name kept=()
    for name in "${names[@]}"; do [ "$name" = mkosi-debs ] || kept+=("$name"); done
    names=("${kept[@]}")
}

initrd_of() {
    case $1 in
    ours) echo "$work/out-ours/initrd" ;;
    *) echo "$work/out-rivals/$1" ;;
    esac
}

# scenarios: their names; what is short for others is left out, and what only a unified kernel image can be.
scenarios() {
    "$ocinitrd" boot --list | awk '$1 != "plain" && $1 != "all" && !/unified kernel image/ { print $1 }'
}

# boot NAME: lines "SCENARIO<TAB>yes" or "SCENARIO<TAB>REASON" in $work/NAME.results.
boot() {
    local with_array without
    mapfile -t with_array < <(scenarios | grep -e '-md\b' -e '^md-')
    mapfile -t without < <(scenarios | grep -v -e '-md\b' -e '^md-')
    boot_those "$1" "" "${without[@]}"
    boot_those "$1" "$NAMED_ARRAY" "${with_array[@]}"
}

# boot_those NAME OPTION-FOR-DRACUT SCENARIO...
boot_those() {
    local name=$1 code=0 options=()
    [ "$name" != dracut ] || [ -z "$2" ] || options=(--append "$2")
    "$ocinitrd" boot --quiet --kernel "$work/out-ours/vmlinuz" --initrd "$(initrd_of "$name")" --disks-by "$work/out-maker" \
        --root "$(IFS=,; echo "${*:3}")" --timeout 300 --log-dir "$work/log/$name" "${options[@]}" --json >"$work/$name.json" || code=$?
    # 1 is that some failed, which is what is asked here.
    [ "$code" -le 1 ] || return "$code"
    awk -F'"' '
        $2 == "scenario" { scenario = $4 }
        # Before the first scenario it is that of all.
        $2 == "ok" && scenario != "" { result = ($3 ~ /true/) ? "yes" : "it boots, which it must not"; results[scenario] = result }
        $2 == "stage" && results[scenario] != "yes" { results[scenario] = $4 }
        $2 == "reason" && results[scenario] != "yes" {
            reason = $0; sub(/^[^:]*: "/, "", reason); sub(/",?$/, "", reason)
            results[scenario] = results[scenario] ": " reason
        }
        END { for (scenario in results) print scenario "\t" results[scenario] }' "$work/$name.json" >>"$work/$name.results"
}

result_of() {
    awk -F'\t' -v scenario="$2" '$1 == scenario { print $2 }' "$work/$1.results"
}

print_table() {
    local scenario name cells
    echo "Linux $(kernel_version) and its modules for all:"
    echo
    echo "| scenario |$(printf ' %s |' "${names[@]}")"
    echo "|---|$(printf -- '---|%.0s' "${names[@]}")"
    for scenario in $(scenarios); do
        cells=""
        for name in "${names[@]}"; do
            [ "$(result_of "$name" "$scenario")" = yes ] && cells+=" yes |" || cells+=" no |"
        done
        echo "| $scenario |$cells"
    done
}

print_reasons() {
    local name
    for name in "${names[@]}"; do
        echo
        echo "Why not, $name:"
        echo
        sort "$work/$name.results" | awk -F'\t' '$2 != "yes" { printf "- %s: %.200s\n", $1, $2 }'
    done
}

names=("${@:2}")
[ "${#names[@]}" -gt 0 ] || names=(ours dracut mkosi-debs)
begin "$@"
# Not the user's: set after the keyring's place was told by it.
cache_home=$work/cache
make_image
export XDG_CACHE_HOME=$cache_home
prepare
for name in "${names[@]}"; do boot "$name"; done
print_table
print_reasons
