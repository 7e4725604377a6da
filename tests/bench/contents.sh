#!/bin/bash
# What of each package is in the base of the image `offline`, and what the packages hold: Markdown, the largest first.
#
# Usage: contents.sh [OCINITRD]      default: target/release/ocinitrd
#
# Sizes are of regular files, not compressed. Files that belong to no package are made while the packages are installed.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"

ROWS=${OCINITRD_BENCH_ROWS:-30}

begin "$@"
export XDG_CACHE_HOME=$work/cache
definition offline
run_measured build "$ocinitrd" build "$work/images/offline.toml" -O "$work/out" -t directory
mkdir "$work/rpms"
run_measured export "$ocinitrd" store export "$work/rpms"

# The packages that are installed, not those of the kernel.
sed -n '/^  "packages"/,/^  \]/s/^ *"name": "\(.*\)",*$/\1/p' "$work/out/manifest.json" >"$work/names"
for rpm in "$work"/rpms/*.rpm; do
    rpm -qp --nosignature --qf '[%{=NAME}\t%{FILENAMES}\t%{FILEMODES:perms}\t%{FILESIZES}\n]' "$rpm"
done | awk -F '\t' 'NR == FNR { base[$1] = 1; next } base[$1] && $3 ~ /^-/ { print $1 "\t" $2 "\t" $4 }' "$work/names" - >"$work/packaged"
(cd "$work/out/root" && find . -type f ! -path './usr/lib/modules/*' -printf '/%P\t%s\n') >"$work/present"

echo "| package | files in it | in the initrd | size in it | in the initrd |"
echo "|---|---:|---:|---:|---:|"
awk -F '\t' '
    NR == FNR { size[$1] = $2; next }
    { files[$1]++; bytes[$1] += $3 }
    $2 in size { kept_files[$1]++; kept[$1] += size[$2]; owned[$2] = 1 }
    END {
        for (name in files) { row(name, files[name], kept_files[name], bytes[name], kept[name]) }
        for (path in size) { if (!(path in owned)) { made_files++; made += size[path] } }
        row("made by installing", made_files, made_files, made, made)
    }
    function row(name, files, kept_files, bytes, kept) {
        printf "%d\t| %s | %d | %d | %.2f MB | %.2f MB |\n", kept, name, files, kept_files, bytes / 1e6, kept / 1e6
        all_files += files; all_kept_files += kept_files; all_bytes += bytes; all_kept += kept; count++
    }
    END { printf "-1\t| all %d | %d | %d | %.2f MB | %.2f MB |\n", count, all_files, all_kept_files, all_bytes / 1e6, all_kept / 1e6 }
' "$work/present" "$work/packaged" | sort -rn | awk -F '\t' -v rows="$ROWS" 'NR <= rows || $1 == "-1" { print $2 }'
