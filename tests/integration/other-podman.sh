#!/bin/bash
# An API service of the podman of another Debian suite, as on another host: other-podman.sh ROOT ARCHIVE PORT
# ROOT is the suite's root filesystem, made if it is not there; ARCHIVE the builder image. Takes root rights. To be run with
# namespaces of its own: unshare --mount --pid --fork --kill-child.
set -euo pipefail
root=$1 archive=$2 port=$3
if [ ! -e "$root/usr/bin/podman" ]; then
    # shellcheck source=tests/distributions/archive.sh
    . "$(dirname "$0")/../distributions/archive.sh"
    source=$(debian_source trixie)
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase --include=podman,crun,ca-certificates \
        --aptopt='Acquire::Check-Valid-Until "false"' trixie "$root" "$source"
fi
mount --make-rprivate /
# Podman changes the propagation of /, so that must be a mount point.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
cp "$archive" "$root/tmp/builder.oci.tar"
mkdir -p "$root/old"
cd "$root"
pivot_root . old
cd /
umount -l /old
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PODMAN_IGNORE_CGROUPSV1_WARNING=1
podman --storage-driver=vfs load --quiet --input /tmp/builder.oci.tar
rm /tmp/builder.oci.tar
exec podman --storage-driver=vfs system service --time=0 "tcp://127.0.0.1:$port"
