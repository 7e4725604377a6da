#!/bin/sh
# Renews some packages of solved sets, adds others, and what that forces, from the repository metadata below /ocinitrd/repos. Runs in the
# builder image, without network.
# Enters: tools.sh, repos.d, repos, keys, builder-keys, repository-keys, rpms, sets/N/{dnf.conf,repos.d,installed,names,added}.
# Leaves: out/N.solution of each set, empty where nothing changes. Exits with 90 if there is no solution; every other exit
# code says that it could not be told.
set -eu
cd /ocinitrd
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096 2> /dev/null || {
    ulimit -n "$(ulimit -Hn)"
    echo "at most $(ulimit -n) files may be open where this runs" >&2
}
. ./tools.sh
mkdir out
# shellcheck source=keys.sh
. ./keys.sh
add_builder_keys
leave_out_unusable_keys

run_dnf() {
    "$dnf" --config="$configuration" --setopt=reposdir="$repositories" --installroot="$root" \
        --releasever="$(cat /ocinitrd/releasever)" "$@"
}

# STATUS LOG: ends after a dnf that solved nothing: with 90 if its log says that there is no solution, which is an answer;
# else it came to no answer.
give_up() {
    [ "$1" -lt 128 ] || exit "$1"
    ! grep -q -E '^ *Problem( [0-9]+)?: |^No match for argument: |^(Error: )?Unable to find a match: |^All matches were ' "$2" \
        || exit 90
    exit 1
}

# dnf keeps what is installed: so the locked packages are, in a database only.
renew() (
    : > "/ocinitrd/out/$1.solution"
    cd "/ocinitrd/sets/$1"
    # Without a name dnf would renew all.
    [ -s names ] || [ -s added ] || exit 0
    root=/ocinitrd/root-$1
    configuration=/ocinitrd/sets/$1/dnf.conf
    repositories=/ocinitrd/sets/$1/repos.d
    # What is asked for and there already is renewed by either.
    action=upgrade
    [ ! -s added ] || action=install
    sed 's,^,/ocinitrd/rpms/,' installed | xargs rpm --root "$root" --install --justdb --nodeps --noscripts --notriggers \
        --ignoresize --ignorearch --nosignature
    run_dnf -y makecache
    # No name is a pattern of files here.
    set -f
    status=0
    # shellcheck disable=SC2046 # a package a word
    run_dnf --assumeno --debugsolver "$action" $(cat names added) > log 2>&1 || status=$?
    cat log
    grep -q '^Nothing to do' log && exit 0
    grep -q '^Operation aborted' log || give_up "$status" log
    cat debugdata/packages/solver.result 2> /dev/null > "/ocinitrd/out/$1.solution" \
        || cat debugdata/rpms/solver.result > "/ocinitrd/out/$1.solution"
)
for set in sets/*; do
    renew "${set#sets/}"
done
