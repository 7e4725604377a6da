#!/bin/sh
# Builds the default image and says what came out: scripts/initrd.sh OCINITRD [IMAGE]
set -eu
ocinitrd=$1
image=${2:-}

# Whether the builder image of a definition is here or some registry answers. What else is wrong with it, such as a digest that
# is gone, the build itself reports with what to do.
registry_answers() {
    ! "$ocinitrd" doctor --image "$1" 2> /dev/null | grep -q '^problem *builder .*no registry answers'
}

if [ -z "$image" ]; then
    image=fedora-44
    if ! registry_answers "$image"; then
        echo "No container registry answers: building the offline image, made from Debian's packages, instead of $image."
        image=offline
    fi
fi
case $image in
    offline) repomd=target/offline/repo/repodata/repomd.xml ;;
    offline-44) repomd=target/offline/fedora44/fedora/repodata/repomd.xml ;;
    *) repomd= ;;
esac
if [ -n "$repomd" ]; then
    make --no-print-directory offline
    # The repository is made on this machine: when it is made anew, so is the lock.
    [ "images/$image.lock" -nt "$repomd" ] || rm -f "images/$image.lock"
fi

"$ocinitrd" build "$image" --output-dir "out/$image"
echo
echo "Boot it with:"
echo "    $ocinitrd boot out/$image"
