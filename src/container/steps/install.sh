#!/bin/bash
# Installs the rpms beside it, in rpms, into a new root and finishes it as far as that needs the distribution's own
# programs. Runs in the builder image, or in a place that has the same programs, without network. Leaves: out/base.tar,
# out/inventory. Exits with 90 if a scriptlet failed.
set -euo pipefail
cd "$(dirname "$0")"
# Some programs close every possible file before they start another, and a rootless engine may set no limit.
ulimit -n 4096 2> /dev/null || {
    ulimit -n "$(ulimit -Hn)"
    echo "at most $(ulimit -n) files may be open where this runs" >&2
}
root=$PWD/root
mkdir -p out "$root"/{proc,dev}
# shellcheck source=owners.sh
. ./owners.sh

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
    mounted=
    # Without a name space of its own, what is mounted would outlive a run that is killed.
    if [ -z "${OCINITRD_NO_MOUNTS:-}" ] && mount --rbind /proc "$root/proc"; then
        mount --rbind /dev "$root/dev"
        mounted=1
    else
        echo "nothing can be mounted here: the programs of the packages run without /proc"
        make_null
    fi
}

# A device where there may be devices; otherwise a file, which will do to write to.
make_null() {
    local null=$root/dev/null
    mknod -m 666 "$null" c 1 3 2> /dev/null && : 2> /dev/null < "$null" && return
    rm -f "$null"
    : > "$null"
    chmod 666 "$null"
}

unmount_kernel_file_systems() {
    # Lazily: in a user namespace what is mounted below them goes with them, and not by itself.
    if [ -n "$mounted" ]; then umount --lazy "$root/proc" "$root/dev"; else rm -rf "$root"/dev/*; fi
}

install_packages() {
    local dnf status=0
    dnf=$(command -v dnf5 || command -v dnf)
    # dnf4 has its cache below the root that it installs into.
    [ "${dnf##*/}" != dnf5 ] || sed -i "s,^\(system_\)\?cachedir=.*,\1cachedir=$PWD/cache," dnf.conf
    # Sorted, so that the transaction is in the same order every time. The hardware database is made once, at the end.
    printf '%s\n' rpms/*.rpm | LC_ALL=C sort \
        | SYSTEMD_HWDB_UPDATE_BYPASS=1 xargs "$dnf" -y --config="$PWD/dnf.conf" --installroot="$root" \
            --releasever="$(cat releasever)" --setopt=reposdir="$PWD/no-repos" install 2>&1 \
        | tee dnf.log || status=$?
    # dnf4 and older dnf5 exit with 0 when a scriptlet fails.
    if grep -E 'scriptlet failed|Error in .* scriptlet' dnf.log > failed-scriptlets; then
        echo "a scriptlet failed; the initrd would be incomplete:" >&2
        cat failed-scriptlets >&2
        exit 90 # an answer: see failure.rs
    fi
    return "$status"
}

# systemd-tmpfiles refuses to run without /proc: then the tree's own runs outside of the tree, with the tree's libraries.
tmpfiles() {
    if [ -n "$mounted" ]; then
        chroot "$root" systemd-tmpfiles "$@"
    else
        local loader
        loader=$(printf '%s\n' "$root"/lib*/ld-linux-*.so.* | sed 1q)
        "$loader" --library-path "$root/usr/lib64:$root/usr/lib64/systemd:$root/usr/lib:$root/usr/lib/systemd" \
            "$root/usr/bin/systemd-tmpfiles" --root="$root" "$@"
    fi
}

# Lets presets of the extra trees lie where each version of systemd looks: since 258 in initrd-preset where the tree is an
# initrd, before in system-preset. What an extra tree has in both places stays as it is.
spread_presets() {
    local directory from to preset
    for directory in etc/systemd usr/local/lib/systemd usr/lib/systemd; do
        for from in system-preset initrd-preset; do
            to=$([ "$from" = system-preset ] && echo initrd-preset || echo system-preset)
            for preset in "extra/$directory/$from"/*.preset; do
                [ -e "$preset" ] || [ -L "$preset" ] || continue
                [ ! -e "extra/$directory/$to/${preset##*/}" ] || continue
                mkdir -p "$root/$directory/$to"
                cp -P --remove-destination --no-preserve=ownership "$preset" "$root/$directory/$to/"
            done
        done
    done
}

# Enables units as the presets of an initrd say, if systemd has such: it takes a tree for an initrd by that file.
apply_presets() {
    spread_presets
    ln -sf os-release "$root/etc/initrd-release"
    chroot "$root" systemctl preset-all
    # What is enabled for users would otherwise depend on the order of the transaction.
    chroot "$root" systemctl --global preset-all
}

# The programs of the tree run in the tree, so that what they record (paths in hwdb.bin, owners) is the tree's own.
finish() {
    # In the place of links, not through them: those would lead into the builder, or nowhere.
    cp -R --remove-destination --no-preserve=ownership extra/. "$root/"
    chroot "$root" systemd-sysusers
    everything_is_roots tmpfiles --boot --create --remove --exclude-prefix={/tmp,/run,/proc,/sys,/dev}
    local pattern
    # Unquoted: it is a pattern.
    while read -r pattern; do rm -f "$root"/usr/lib/udev/hwdb.d/$pattern; done < hwdb-exclude
    chroot "$root" systemd-hwdb --usr --strict update
    apply_presets
    chroot "$root" ldconfig
}

write_inventory() {
    rpm --root "$root" -qa \
        --qf '%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\t%{LICENSE}\t%{LONGSIZE}\t%{BUILDTIME}\n' \
        | { grep -v '^gpg-pubkey' || true; } | LC_ALL=C sort > out/inventory
}

# ARGUMENTS...: archives what they name. Of extended attributes with the capabilities alone: the others are of the machine that
# this runs on, such as labels of SELinux (tree/attributes.rs).
archive() {
    tar --file=out/base.tar --directory="$root" --format=posix --sort=name --numeric-owner \
        --xattrs --xattrs-include='security.capability' --pax-option=delete=atime,delete=ctime "$@"
}

export_tree() {
    unmount_kernel_file_systems
    if [ -n "$one_owner" ]; then archive_with_owners; else archive --create .; fi
}

# timed WORDS FUNCTION: says how long it took.
timed() {
    local TIMEFORMAT="$1 took %R s"
    time "$2"
}

[ -n "${OCINITRD_NO_MOUNTS:-}" ] || provide_mount
prepare_owners
mount_kernel_file_systems
timed 'dnf and rpm' install_packages
timed 'finishing the tree' finish
write_inventory
timed 'archiving the tree' export_tree
