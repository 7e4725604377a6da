#!/bin/sh
# Builds the default image and says what came out: scripts/initrd.sh OCINITRD [IMAGE]
set -eu
ocinitrd=$1
image=${2:-}

# Whether the builder image of a definition is at hand, or a registry has it.
builder_answers() {
    reference=$(sed -n 's/^image = "\(.*\)"$/\1/p' "images/$1.toml" "images/parts/$1.toml" 2> /dev/null)
    # podman takes a tag or a digest, not both.
    reference=$(echo "$reference" | sed 's/:[^:@/]*@/@/')
    podman image exists "$reference" 2> /dev/null \
        || timeout 30 podman manifest inspect "docker://$reference" > /dev/null 2>&1
}

if [ -z "$image" ]; then
    image=fedora-44
    if ! builder_answers "$image"; then
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
