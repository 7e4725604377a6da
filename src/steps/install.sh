#!/bin/bash
# Installs the rpms in /ocinitrd/rpms into a new root and finishes it as far as that needs the distribution's own
# programs. Runs in the builder image, without network. Leaves: out/base.tar, out/inventory.
set -euo pipefail
cd /ocinitrd
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096
root=/rootfs
mkdir -p out "$root"/{proc,dev}

# Fedora's base image has been shipped without mount(8): then it comes from the rpms at hand.
provide_mount() {
    command -v mount > /dev/null && return
    local name
    for name in util-linux-core libmount libblkid libuuid libselinux; do
        ls rpms/"$name"-[0-9]*.rpm 2> /dev/null
    done | xargs rpm -U --nodeps --noscripts --notriggers --replacepkgs --oldpackage
    command -v mount > /dev/null || {
        echo "the builder image has no mount(8) and no util-linux-core is among the packages: install it in the image" >&2
        exit 1
    }
}

# Scriptlets need /proc and /dev/null; what is mounted must not be owned or changed by a package.
mount_kernel_file_systems() {
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
}

install_packages() {
    local dnf status=0
    dnf=$(command -v dnf5 || command -v dnf)
    # Sorted, so that the transaction is in the same order every time. The hardware database is made once, at the end.
    printf '%s\n' rpms/*.rpm | LC_ALL=C sort \
        | SYSTEMD_HWDB_UPDATE_BYPASS=1 xargs "$dnf" -y --config=/ocinitrd/dnf.conf --installroot="$root" \
            --releasever="$(cat releasever)" --setopt=reposdir=/ocinitrd/no-repos install 2>&1 \
        | tee dnf.log || status=$?
    # dnf4 and older dnf5 exit with 0 when a scriptlet fails.
    if grep -E 'scriptlet failed|Error in .* scriptlet' dnf.log > failed-scriptlets; then
        echo "a scriptlet failed; the initrd would be incomplete:" >&2
        cat failed-scriptlets >&2
        exit 1
    fi
    return "$status"
}

# The programs of the tree run in the tree, so that what they record (paths in hwdb.bin, owners) is the tree's own.
finish() {
    cp -R --no-preserve=ownership extra/. "$root/"
    chroot "$root" systemd-sysusers
    chroot "$root" systemd-tmpfiles --boot --create --remove --exclude-prefix={/tmp,/run,/proc,/sys,/dev}
    local pattern
    # Unquoted: it is a pattern.
    while read -r pattern; do rm -f "$root"/usr/lib/udev/hwdb.d/$pattern; done < hwdb-exclude
    chroot "$root" systemd-hwdb --usr --strict update
    chroot "$root" systemctl preset-all
    # What is enabled for users would otherwise depend on the order of the transaction.
    chroot "$root" systemctl --global preset-all
    chroot "$root" ldconfig
}

write_inventory() {
    rpm --root "$root" -qa \
        --qf '%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\t%{LICENSE}\t%{LONGSIZE}\t%{BUILDTIME}\n' \
        | { grep -v '^gpg-pubkey' || true; } | LC_ALL=C sort > out/inventory
}

export_tree() {
    umount -R "$root/proc" "$root/dev"
    tar --create --file=out/base.tar --directory="$root" --format=posix --sort=name --numeric-owner \
        --xattrs --xattrs-include='*' --pax-option=delete=atime,delete=ctime .
}

# timed WORDS FUNCTION: says how long it took.
timed() {
    local TIMEFORMAT="$1 took %R s"
    time "$2"
}

provide_mount
mount_kernel_file_systems
timed 'dnf and rpm' install_packages
timed 'finishing the tree' finish
write_inventory
timed 'archiving the tree' export_tree
