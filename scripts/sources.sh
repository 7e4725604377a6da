#!/bin/sh
# Makes the sources that packaging/ocinitrd.spec names, of what is committed: scripts/sources.sh DIRECTORY
set -eu
mkdir -p "$1"
directory=$(cd "$1" && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=ocinitrd-$version
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

git archive --prefix="$name/" --output="$directory/$name.tar.gz" HEAD
tar -xf "$directory/$name.tar.gz" -C "$scratch"
# Its standard output is the configuration that the spec writes itself.
(cd "$scratch/$name" && cargo vendor --quiet --locked --versioned-dirs vendor > /dev/null)
tar -cJf "$directory/$name-vendor.tar.xz" --owner=0 --group=0 --sort=name --mtime=@0 -C "$scratch/$name" vendor
ls -l "$directory"
