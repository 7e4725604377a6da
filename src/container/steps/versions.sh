#!/bin/sh
# Tells the versions of the builder's rpm and dnf.
# Leaves: out/builder.
set -eu
cd /ocinitrd
. ./tools.sh
mkdir out
print_versions > out/builder
