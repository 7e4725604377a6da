#!/bin/sh
# Makes Debian's package of what was built: scripts/deb.sh PROGRAM MANUAL OUTPUT
# MANUAL is a directory that ocinitrd-manual wrote, OUTPUT the package or the directory that it goes into. Cargo.toml says what it is made
# of. cargo-deb is built once into a cache directory if it is not installed.
set -eu
cache=${OCINITRD_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocinitrd-tests}
PATH=$PATH:$cache/cargo/bin
command -v cargo-deb > /dev/null || cargo install --quiet --locked --debug --root "$cache/cargo" cargo-deb
rm -rf target/deb
DESTDIR=target/deb PREFIX=/usr DEBIAN_HOOKS=yes scripts/install.sh "$1" "$2"
# Debian has the licence in its own place.
rm -r target/deb/usr/share/licenses
cargo deb --quiet --no-build --no-strip --output "$3"
