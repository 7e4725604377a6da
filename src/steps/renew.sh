#!/bin/sh
# Renews some packages of solved sets and what they force, from the repository metadata below /ocinitrd/repos. Runs in the
# builder image, without network.
# Enters: repos.d, repos, keys, builder-keys, rpms, sets/N/{dnf.conf,installed,names}.
# Leaves: out/N.solution of each set, empty where nothing changes.
set -eu
cd /ocinitrd
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096
mkdir out
dnf=$(command -v dnf5 || command -v dnf)
while read -r name path; do
    cp "$path" "keys/$name"
done < builder-keys

run_dnf() {
    "$dnf" --config="$configuration" --setopt=reposdir=/ocinitrd/repos.d --installroot="$root" \
        --releasever="$(cat /ocinitrd/releasever)" "$@"
}

# dnf keeps what is installed: so the locked packages are, in a database only.
renew() (
    : > "/ocinitrd/out/$1.solution"
    root=/ocinitrd/root-$1
    configuration=/ocinitrd/sets/$1/dnf.conf
    cd "/ocinitrd/sets/$1"
    sed 's,^,/ocinitrd/rpms/,' installed | xargs rpm --root "$root" --install --justdb --nodeps --noscripts --notriggers \
        --ignoresize --ignorearch --nosignature
    run_dnf -y makecache
    # shellcheck disable=SC2046 # a package a word
    run_dnf --assumeno --debugsolver upgrade $(cat names) > log 2>&1 || true
    cat log
    grep -q '^Nothing to do' log && exit 0
    grep -q '^Operation aborted' log || exit 1
    cat debugdata/packages/solver.result 2> /dev/null > "/ocinitrd/out/$1.solution" \
        || cat debugdata/rpms/solver.result > "/ocinitrd/out/$1.solution"
)
for set in sets/*; do
    renew "${set#sets/}"
done
