#!/bin/sh
# Checks that cargo is there and new enough for this project, and its parts: scripts/rust.sh [fmt] [clippy]
set -eu
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
how="Install Rust $wanted or newer with rustup (https://rustup.rs), or update with: rustup update stable"
if ! command -v cargo > /dev/null || ! command -v rustc > /dev/null; then
    echo "cargo and rustc are not there. $how" >&2
    exit 1
fi
found=$(rustc --version | cut -d ' ' -f 2)
lowest=$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)
if [ "$lowest" != "$wanted" ]; then
    echo "rustc is $found; this project needs $wanted. $how" >&2
    exit 1
fi
for part in "$@"; do
    if ! cargo "$part" --version > /dev/null 2>&1; then
        echo "cargo $part is not there. Install it with: rustup component add rustfmt clippy" >&2
        exit 1
    fi
done
