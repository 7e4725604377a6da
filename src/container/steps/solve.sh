#!/bin/sh
# Solves package sets from the repository metadata below /ocinitrd/repos. Runs in the builder image, without network.
# Enters: tools.sh, repos.d of all repositories, repos, keys, builder-keys, repository-keys, sets/N/{dnf.conf,repos.d,packages},
# image-repos.d of those of kernels, kernel-packages.
# Leaves: out/N.solution and out/N.log of each set, out/kernel, out/builder, out/keys.tar, out/refused-keys. Exits with 90 if there is no
# solution; every other exit code says that it could not be told.
set -eu
cd /ocinitrd
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096 2> /dev/null || {
    ulimit -n "$(ulimit -Hn)"
    echo "at most $(ulimit -n) files may be open where this runs" >&2
}
. ./tools.sh
mkdir out
print_versions > out/builder

# shellcheck source=keys.sh
. ./keys.sh
add_builder_keys
tar --create --file=out/keys.tar --directory=keys .
leave_out_unusable_keys

run_dnf() {
    # dnf5 takes a reposdir of the configuration file for one below the installroot.
    "$dnf" --config="$configuration" --setopt=reposdir="$repositories" --installroot=/ocinitrd/root \
        --releasever="$(cat /ocinitrd/releasever)" "$@"
}

# Imports the keys of repositories whose metadata is signed and verifies it: the solve itself answers no to everything.
configuration=/ocinitrd/dnf.conf
repositories=/ocinitrd/repos.d
run_dnf -y makecache

repositories=/ocinitrd/image-repos.d
: > out/kernel
while read -r set package version; do
    # Each of Fedora's kernel packages provides `NAME-uname-r = KVER`, firmware belongs to no kernel. dnf wants the
    # spaces, and limits to the latest before it looks at what is provided: so not both.
    set -- "$set" --latest-limit=1
    if [ -n "$version" ]; then
        run_dnf -q repoquery --qf '%{name}\n' "$package" "--whatprovides=$package-uname-r" > providers
        ! grep -q . providers || set -- "$1" "--whatprovides=$package-uname-r = $version"
    fi
    # The first line that is not empty: another repository may have the same package.
    run_dnf -q repoquery --qf '%{name} %{epoch} %{version} %{release} %{arch} %{repoid}\n' "$package" "$2" > answer
    sed -n '/./{p;q;}' answer > found
    if ! [ -s found ]; then
        echo "no repository has the kernel package $package${version:+ for the kernel $version; those there are:}" >&2
        run_dnf -q repoquery --provides "$package" > provided
        sed -n "s/^$package-uname-r = /  /p" provided | sort -u -V >&2
        exit 90
    fi
    sed "s/^/$1 /" found >> out/kernel
done < kernel-packages

# STATUS LOG: ends after a dnf that solved nothing: with 90 if its log says that there is no solution, which is an answer;
# else it came to no answer.
give_up() {
    [ "$1" -lt 128 ] || exit "$1"
    ! grep -q -E '^ *Problem( [0-9]+)?: |^No match for argument: |^(Error: )?Unable to find a match: |^All matches were ' "$2" \
        || exit 90
    exit 1
}

# Both dnfs exit with 1 after an --assumeno that was solved, so the result of the solver decides.
solve() (
    configuration=/ocinitrd/sets/$1/dnf.conf
    repositories=/ocinitrd/sets/$1/repos.d
    cd "/ocinitrd/sets/$1"
    # No name is a pattern of files here.
    set -f
    status=0
    # shellcheck disable=SC2046 # a package a word
    run_dnf --assumeno --debugsolver install $(cat packages) > "/ocinitrd/out/$1.log" 2>&1 || status=$?
    cat "/ocinitrd/out/$1.log"
    grep -q '^Operation aborted' "/ocinitrd/out/$1.log" || give_up "$status" "/ocinitrd/out/$1.log"
    cat debugdata/packages/solver.result 2> /dev/null > "/ocinitrd/out/$1.solution" \
        || cat debugdata/rpms/solver.result > "/ocinitrd/out/$1.solution"
)
for set in sets/*; do
    # Maybe only a kernel is looked for.
    [ -e "$set" ] || continue
    solve "${set#sets/}"
done
