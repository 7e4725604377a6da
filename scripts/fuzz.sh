#!/bin/sh
# Gives each reader of foreign bytes random ones: scripts/fuzz.sh SECONDS [TARGET...], or --check to see that all compile
# SECONDS is for each target; without TARGETs it is all of fuzz/fuzz_targets, two at a time where there are two processors or more.
# An input that crashes its target, takes longer than 10 seconds, or needs more memory than fuzz/src/lib.rs allows is kept in
# fuzz/artifacts, and makes this fail. cargo-fuzz is built once into a cache directory if it is not installed.
set -eu
cd "$(dirname "$0")/.."
if [ "$1" = --check ]; then
    RUSTFLAGS='--cfg fuzzing' exec cargo clippy --quiet --manifest-path fuzz/Cargo.toml --locked --bins --examples \
        --target-dir target/fuzz -- --deny warnings
fi
seconds=$1
shift
cache=${OCINITRD_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocinitrd-tests}
PATH=$PATH:$cache/cargo/bin
command -v cargo-fuzz > /dev/null || cargo install --quiet --locked --debug --root "$cache/cargo" cargo-fuzz
[ $# -gt 0 ] || set -- $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//')

# No sanitizer: the program has no unsafe code, and so any compiler does, not only a nightly one.
cargo fuzz build --sanitizer none
corpus=fuzz/corpus
programs=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release
cargo run --quiet --manifest-path fuzz/Cargo.toml --target "$(rustc -vV | sed -n 's/^host: //p')" --release --example seeds "$corpus"

# Small files come and go by the thousand.
scratch=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/ocinitrd-fuzz.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
fuzz_one() {
    target=$1
    mkdir -p "$corpus/$target" "fuzz/artifacts/$target"
    if "$programs/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "$corpus/$target" > "$scratch/$target.log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/$target.log") inputs, no fault"
    else
        echo "$target: FAULT"
        tail -n 60 "$scratch/$target.log"
        touch "$scratch/failed"
    fi
}
running=0
for target in "$@"; do
    fuzz_one "$target" &
    running=$((running + 1))
    if [ "$running" -ge 2 ] || [ "$(nproc)" -lt 2 ]; then
        wait
        running=0
    fi
done
wait
[ ! -e "$scratch/failed" ]
