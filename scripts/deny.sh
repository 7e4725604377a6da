#!/bin/sh
# Checks licences, sources and bans of all dependencies, and advisories where their database can be fetched.
# cargo-deny is built once into a cache directory if it is not installed.
set -eu
cache=${OCINITRD_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocinitrd-tests}
PATH=$PATH:$cache/cargo/bin
command -v cargo-deny > /dev/null || cargo install --quiet --locked --debug --root "$cache/cargo" cargo-deny
cargo deny --log-level error check licenses bans sources
if ! timeout 60 cargo deny --log-level error fetch db 2> /dev/null; then
    echo "advisories: not checked, their database cannot be fetched here"
    exit 0
fi
cargo deny --log-level error check --disable-fetch advisories
