#!/bin/sh
# Verifies signatures of rpms with rpm's own verifier. Runs in the builder image, without network.
# Enters: keys/KEY, and in rpms/KEY the rpms that this key is supposed to have signed, each with only that signature.
# Leaves: out/verdicts, a line for each rpm; out/details, on those that do not verify; out/refused, rpm's words on keys that it
# cannot import. Any exit code but 0 means that there is no answer.
set -eu
cd "$(dirname "$0")"
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096 2> /dev/null || {
    ulimit -n "$(ulimit -Hn)"
    echo "at most $(ulimit -n) files may be open where this runs" >&2
}
mkdir keydb out
: > out/refused
: > out/verdicts
: > out/details

for key in keys/*; do
    key=${key#keys/}
    # Only with this key: the builder's own database is not used.
    database=$PWD/keydb/$key
    mkdir "$database"
    if ! rpmkeys --dbpath "$database" --import "keys/$key" > words 2>&1; then
        # Also into the log, where messages of a machine that has run out of something are looked for.
        cat words >&2
        { echo "$key:"; sed 's/^/    /' words; } >> out/refused
        continue
    fi
    status=0
    rpmkeys --dbpath "$database" --define '_pkgverify_level all' --checksig "rpms/$key"/*.rpm > lines || status=$?
    cat lines >> out/verdicts
    # The exit code may be a number of rpms or that of a signal: there is an answer if there is a verdict on each of them.
    set -- "rpms/$key"/*.rpm
    if [ "$(grep -c '^rpms/.* OK$' lines)" -ne $# ]; then
        [ "$status" -lt 128 ] || exit "$status"
        exit 1
    fi
    sed -n 's/^\(rpms[^:]*\): .*NOT OK$/\1/p' lines | while read -r rpm; do
        rpmkeys --dbpath "$database" --define '_pkgverify_level all' -v --checksig "$rpm" >> out/details || true
    done
done
