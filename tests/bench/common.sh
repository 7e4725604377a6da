# What the scripts beside this one share; sourced by bash.

export LC_ALL=C
checkout=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
measure=$checkout/tests/bench/measure
# The engine is always a podman that the measured program starts itself: what its containers use of the CPU is counted then.
unset CONTAINER_HOST DOCKER_HOST

# require_offline: the repository and the builder image of the image `offline`.
require_offline() {
    [ -e "$checkout/target/offline/builder.toml" ] && return
    echo "$0: the offline repository is missing: run \`make offline\`" >&2
    exit 1
}

# begin [OCINITRD]: what most scripts begin with. Sets ocinitrd, the program that is measured; work, a directory that goes with the script;
# and machine, a line about this one before the measurements load it.
begin() {
    ocinitrd=$(realpath "${1:-$checkout/target/release/ocinitrd}")
    require_offline
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/ocinitrd-bench.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    machine=$(machine)
}

# run_measured NAME COMMAND...: a line of $work/NAME.times; what the command prints goes to $work/NAME.log, and is shown if it fails.
run_measured() {
    local name=$1
    shift
    "$measure" "$work/$name.times" "$@" >"$work/$name.log" 2>&1 || {
        echo "$0: this failed: $*" >&2
        cat "$work/$name.log" >&2
        return 1
    }
}

# median NAME FIELD: of the lines of $work/NAME.times; field 1 is wall clock, field 2 CPU, in seconds.
median() {
    awk -v field="$2" '{ print $field }' "$work/$1.times" | sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

# forget_results: of the cache of results in $work/cache all but that signatures were verified.
forget_results() {
    find "$work/cache/ocinitrd/cache" -mindepth 1 -maxdepth 1 ! -name signature -exec rm -rf {} +
}

# definition NAME [LINE]...: $work/images/NAME.toml, the image `offline` with further lines.
definition() {
    local name=$1
    shift
    mkdir -p "$work/images"
    printf '%s\n' "include = [\"$checkout/images/offline.toml\"]" "$@" >"$work/images/$name.toml"
}

# plain_definition NAME [LINE]...: the same without the profiles of `offline`; the lines begin in [kernel].
plain_definition() {
    local name=$1
    shift
    mkdir -p "$work/images"
    printf '%s\n' "include = [\"$checkout/images/parts/initrd.toml\", \"$checkout/target/offline/builder.toml\"]" 'releasever = "44"' \
        "$(sed -n '/^\[packages\]/,$p' "$checkout/images/offline.toml")" "$@" >"$work/images/$name.toml"
}

# modules_alone NAME...: as a TOML list that selects them alone.
modules_alone() {
    printf '["-*"'
    printf ', "%s"' "$@"
    printf ']'
}

# host_modules: the names in host.modules as a TOML list that selects them alone.
host_modules() {
    # shellcheck disable=SC2046
    modules_alone $(sed '/^#/d' "$checkout/tests/bench/host.modules")
}

# megabytes FILE...: the sum of their sizes.
megabytes() {
    stat -Lc %s "$@" | awk '{ sum += $1 } END { printf "%.1f\n", sum / 1e6 }'
}

machine() {
    echo "$(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg) at the start"
}
