#!/bin/sh
# Lets the tool's own image be built on what the builder of Fedora's image is pinned to: scripts/containerfile.sh
set -eu
containerfile=containerfiles/ocinitrd.containerfile
pinned=$(sed -n 's/^image = "\(.*@sha256:[0-9a-f]*\)"$/\1/p' images/parts/fedora-44.toml)
case $pinned in
    '' | *[[:space:]]*) echo "images/parts/fedora-44.toml pins no builder image, or several" >&2; exit 1 ;;
esac
grep -q '^ARG FEDORA=' "$containerfile" || { echo "$containerfile has no ARG FEDORA" >&2; exit 1; }
sed -i "s|^ARG FEDORA=.*|ARG FEDORA=$pinned|" "$containerfile"
