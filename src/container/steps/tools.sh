# What every script that asks for the builder's dnf begins with. Leaves: $dnf, and a function that tells the versions.
# shellcheck shell=sh
dnf=$(command -v dnf5 || command -v dnf) || {
    echo "the builder image holds neither dnf5 nor dnf: pin an image that has one" >&2
    exit 1
}
print_versions() {
    rpm --version
    "$dnf" --version | sed -n 1p
}
