#!/bin/bash
# A distribution's programs in a container image of podman: of those others that ours is measured and tested beside.
#
# Usage: image.sh RECIPE      prints the image's name, localhost/ocinitrd/RECIPE:DIGEST, and makes the image if podman has none of it
#
# RECIPE is the name of a file RECIPE.recipe beside this script. It sets, for bash: SUITE and PACKAGES, of Debian's archive, and
# CUSTOMIZE, shell text that runs in the image at last, with a network. An image is made once: the digest is that of the recipe and of
# this script. What the archive has today is not in it: `podman rmi` an image to have it made anew. The archive is that of
# DEBIAN_MIRROR or of this machine's apt.
set -euo pipefail
export LC_ALL=C
# shellcheck source=tests/distributions/archive.sh
. "$(dirname "$0")/archive.sh"

die() {
    echo "image.sh: $*" >&2
    exit 1
}

make_image() {
    local work source
    source=$(debian_source "$SUITE")
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/ocinitrd-image.XXXXXX")
    # shellcheck disable=SC2064 # what it is now
    trap "rm -rf '$work'" EXIT
    echo "$CUSTOMIZE" >"$work/customize"
    mmdebstrap --quiet --variant=minbase --architectures=amd64 --include="$PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="upload '$work/customize' /customize" --customize-hook='chroot "$1" sh /customize && rm "$1/customize"' \
        "$SUITE" "$work/image.tar" "$source" >&2 || die "the image of the recipe $name could not be made"
    podman import --quiet "$work/image.tar" "$image" >/dev/null
}

[ $# = 1 ] || die "usage: image.sh RECIPE"
name=$1
recipe=$(dirname "$0")/$name.recipe
[ -e "$recipe" ] || die "there is no recipe $recipe"
image=localhost/ocinitrd/$name:$(cat "$0" "$recipe" | sha256sum | cut -c 1-12)
SUITE='' PACKAGES='' CUSTOMIZE=:
# shellcheck source=/dev/null
. "$recipe"
[ -n "$SUITE" ] && [ -n "$PACKAGES" ] || die "the recipe $recipe sets no SUITE or no PACKAGES"
# Others who want it meanwhile wait for it.
exec 9<"$recipe"
flock 9
if ! podman image exists "$image"; then
    echo "making the image $image, which takes some minutes" >&2
    make_image
fi
echo "$image"
