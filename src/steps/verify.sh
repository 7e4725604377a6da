#!/bin/sh
# Verifies the signatures of rpms with rpm's own verifier. Runs in the builder image, without network.
# Enters: keys, rpms. Prints a line for each rpm that does not verify and then exits with 90; every other exit code says
# that it could not be told.
set -eu
cd "$(dirname "$0")"
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096 2> /dev/null || {
    ulimit -n "$(ulimit -Hn)"
    echo "at most $(ulimit -n) files may be open where this runs" >&2
}
mkdir keydb
# Only these keys count: the builder's own database is not looked at.
rpmkeys --dbpath "$PWD/keydb" --import keys/* || exit 1
status=0
rpmkeys --dbpath "$PWD/keydb" --define '_pkgverify_level all' --checksig rpms/*.rpm > log 2>&1 || status=$?
[ "$status" -ne 0 ] || exit 0
# The exit code may be a number of rpms or that of a signal: there is an answer if there is a verdict on each of them.
set -- rpms/*.rpm
if [ "$(grep -c '^rpms/.* OK$' log)" -ne $# ]; then
    cat log >&2
    [ "$status" -lt 128 ] || exit "$status"
    exit 1
fi
grep -v ': digests signatures OK$' log >&2
exit 90
