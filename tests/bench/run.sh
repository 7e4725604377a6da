#!/bin/sh
# All measurements of docs/benchmarks.md, as markdown: tests/bench/run.sh OCINITRD
set -eu
ocinitrd=$1
here=$(dirname "$0")

echo "## Conversion of a layer to cpio"
"$here/convert.sh" "$ocinitrd"
echo
echo "## Peak memory of a conversion"
"$here/memory.sh" "$ocinitrd" 256 1024 4096
echo
echo "## Kernel modules: kept as shipped, or decompressed"
"$here/modules.sh" | sed 's/^/    /'
echo
echo "## Stages of a build"
"$here/stages.sh" "$ocinitrd"
echo
echo "## The images"
"$here/images.sh" "$ocinitrd"
echo
echo "## What is in the base"
"$here/contents.sh" "$ocinitrd"
echo
echo "## Codecs and levels"
"$here/compression.sh" "$ocinitrd"
echo
echo "## Beside mkosi and dracut"
"$here/rivals.sh" "$ocinitrd"
echo
echo "## Installing a kernel beside dracut"
"$here/host.sh" "$ocinitrd"
echo
echo "## Boots beside dracut and mkosi"
"$here/boot-time.sh" "$ocinitrd"
echo
echo "## Roots that dracut and mkosi find"
"$here/features.sh" "$ocinitrd"
