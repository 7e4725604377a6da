#!/bin/sh
# Solves package sets from the repository metadata below /ocinitrd/repos. Runs in the builder image, without network.
# Enters: dnf.conf, repos.d, repos, keys, packages, kernel-packages. Leaves: out/solution, out/kernel, out/builder.
set -eu
cd /ocinitrd
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096
mkdir out
dnf=$(command -v dnf5 || command -v dnf) || {
    echo "the builder image holds neither dnf5 nor dnf: pin an image that has one" >&2
    exit 1
}
{ rpm --version; "$dnf" --version | sed -n 1p; } > out/builder

# Keys that the image itself carries are named by their path in it.
while read -r name path; do
    cp "$path" "keys/$name"
done < builder-keys

run_dnf() {
    # dnf5 takes a reposdir of the configuration file for one below the installroot.
    "$dnf" --config=/ocinitrd/dnf.conf --setopt=reposdir=/ocinitrd/repos.d --installroot=/ocinitrd/root \
        --releasever="$(cat releasever)" "$@"
}

# Imports the keys of repositories whose metadata is signed and verifies it: the solve itself answers no to everything.
run_dnf -y makecache

: > out/kernel
while read -r package version; do
    # Each of Fedora's kernel packages provides `NAME-uname-r = KVER`, firmware belongs to no kernel. dnf wants the
    # spaces, and limits to the latest before it looks at what is provided: so not both.
    set -- --latest-limit=1
    if [ -n "$version" ] \
        && run_dnf -q repoquery --qf '%{name}\n' "$package" "--whatprovides=$package-uname-r" | grep . > /dev/null; then
        set -- "--whatprovides=$package-uname-r = $version"
    fi
    # The first line that is not empty: another repository may have the same package.
    run_dnf -q repoquery --qf '%{name} %{epoch} %{version} %{release} %{arch} %{repoid}\n' "$package" "$@" > answer
    sed -n '/./{p;q;}' answer > found
    if ! [ -s found ]; then
        echo "no repository has the kernel package $package${version:+ for the kernel $version; those there are:}" >&2
        run_dnf -q repoquery --provides "$package" | sed -n "s/^$package-uname-r = /  /p" | sort -u -V >&2
        exit 1
    fi
    cat found >> out/kernel
done < kernel-packages

# Both dnfs exit with 1 after an --assumeno that was solved, so the result of the solver decides.
# shellcheck disable=SC2046 # a package a word
run_dnf --assumeno --debugsolver install $(cat packages) > log 2>&1 || true
cat log
if ! grep -q '^Operation aborted' log; then
    exit 1
fi
cat debugdata/packages/solver.result 2>/dev/null > out/solution || cat debugdata/rpms/solver.result > out/solution
