# Makes disks: the recipe of a disk set is run at the end, and calls the functions below.
devices=/dev
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
set -eE
trap 'fail "making the disks: $BASH_COMMAND (exit code $?)"' ERR
need cp mkdir modprobe mount sync umount
load_modules virtio_pci virtio_blk
# Nobody answers for udev here.
export DM_DISABLE_UDEV=1
mkdir -p /run/lock /run/cryptsetup /run/lvm
target=/ocinitrd/target
key=/ocinitrd/key
pcr_key=/ocinitrd/pcr-key
printf %s 'a passphrase' >$key
# What the target has beside its shell.
target_programs=

# install_program PROGRAM DIRECTORY: with the libraries it needs.
install_program() {
    local program name arrow path file
    program=$(type -P "$1")
    LD_TRACE_LOADED_OBJECTS=1 "$program" >/ocinitrd/libraries
    while read -r name arrow path _; do
        [[ $arrow == '=>' ]] || path=$name
        [[ $path == /* ]] || continue
        # Where it is, and where the loader looks for it, which may lead there by links between directories.
        for file in "$(cd -P "${path%/*}" && pwd)/${path##*/}" "$path"; do
            mkdir -p "$2${file%/*}"
            cp -L "$path" "$2$file"
        done
    done </ocinitrd/libraries
    cp -L "$program" "$2/usr/bin/"
}

# populate DIRECTORY: the smallest tree that an initrd takes for an operating system.
populate() {
    local program
    mkdir -p "$1"/{dev,etc,proc,run,sys,tmp} "$1"/usr/{bin,lib,lib64}
    ln -s usr/bin "$1/bin"
    ln -s usr/bin "$1/sbin"
    ln -s usr/lib "$1/lib"
    ln -s usr/lib64 "$1/lib64"
    ln -s bin "$1/usr/sbin"
    printf 'ID=ocinitrd-target\nNAME="ocinitrd boot target"\n' >"$1/usr/lib/os-release"
    ln -s ../usr/lib/os-release "$1/etc/os-release"
    for program in bash $target_programs; do install_program "$program" "$1"; done
    # Where the loader was told of a library's directory by ldconfig, it has to be told again.
    [[ ! -f /etc/ld.so.cache ]] || cp /etc/ld.so.cache "$1/etc/"
    cp /ocinitrd/target-init "$1/usr/bin/init"
}

# format DEVICE TYPE UUID LABEL [DEVICE]: a file system; btrfs may be a RAID1 over two devices.
format() {
    wait_for "$1"
    load_modules "$2"
    case $2 in
    ext4)
        need mke2fs
        mke2fs -q -t ext4 -U "$3" -L "$4" "$1"
        ;;
    xfs)
        need mkfs.xfs
        mkfs.xfs -q -m uuid="$3" -L "$4" "$1"
        ;;
    btrfs)
        need mkfs.btrfs
        if [[ $5 ]]; then wait_for "$5"; fi
        mkfs.btrfs -q -U "$3" -L "$4" ${5:+-d raid1 -m raid1} "$1" ${5:+"$5"}
        ;;
    esac
}

# make_file_system DEVICE TYPE [DEVICE]: that of the root, still empty.
make_file_system() {
    format "$1" "$2" 0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d ocinitrdroot "$3"
}

make_usr() {
    format "$1" "$2" 0c1d2d00-e4f5-4a6b-8c7d-000000000002 ocinitrdusr
}

# mount_target DEVICE TYPE [OPTION]...
mount_target() {
    mkdir -p $target
    mount -t "$2" "${@:3}" "$1" $target
}

# make_root DEVICE TYPE [DEVICE]: a root file system with the target.
make_root() {
    make_file_system "$@"
    if [[ $3 ]]; then
        need btrfs
        btrfs -q device scan "$1" "$3"
    fi
    mount_target "$1" "$2"
    populate $target
    umount $target
}

# add_extension DEVICE TYPE: gives the root of that file system an extension of /usr, as systemd-sysext(8) takes them.
add_extension() {
    local extension=$target/var/lib/extensions/added
    mount_target "$@"
    mkdir -p $extension/usr/lib/extension-release.d
    echo ID=_any >$extension/usr/lib/extension-release.d/extension-release.added
    umount $target
}

# make_luks DEVICE NUMBER: a LUKS volume, opened as /dev/mapper/luksNUMBER, with $luks_options.
make_luks() {
    local volume=(--batch-mode --key-file $key $luks_options "$1")
    need cryptsetup
    load_modules dm_crypt aes xts
    wait_for "$1"
    # What makes guessing slow makes tests slow.
    cryptsetup luksFormat --type luks2 --uuid 0c1d2d00-1111-4000-8000-00000000000"$2" \
        --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "${volume[@]}"
    cryptsetup open "${volume[@]}" luks"$2"
}

make_swap() {
    need mkswap
    wait_for "$1"
    mkswap -q -U 0c1d2d00-e4f5-4a6b-8c7d-000000000004 "$1"
}

# make_key_disk DEVICE: a file system for keys, mounted at $target.
make_key_disk() {
    format "$1" ext4 0c1d2d00-e4f5-4a6b-8c7d-000000000003 ocinitrdkey
    mount_target "$1" ext4
}

# make_group DEVICE...: the volume group vg.
make_group() {
    local device
    need lvm
    load_modules dm_mod
    for device; do wait_for "$device"; done
    lvm vgcreate -q -y vg "$@"
}

# make_array LEVEL DEVICE...: the array /dev/md0.
make_array() {
    local device
    need mdadm
    load_modules md_mod raid"$1" raid456
    for device in "${@:2}"; do wait_for "$device"; done
    mdadm --quiet --create /dev/md0 --run --assume-clean --metadata=1.2 --homehost=any --name=root \
        --uuid=0c1d2d00:22224000:80000000:00000001 --level="$1" --raid-devices=$(($# - 1)) "${@:2}"
}

# Takes apart what was made, so that all of it is on the disks.
put_away() {
    local tries mapped array
    umount $target 2>/dev/null || :
    # From the top of the stack down: what is in use stays for the next round.
    for ((tries = 0; tries < 5; tries++)); do
        [[ ! $(type -P lvm) ]] || lvm vgchange -q -an || :
        for mapped in /dev/mapper/luks*; do cryptsetup close "${mapped##*/}" || :; done
        for array in /dev/md[0-9]*; do mdadm --quiet --stop "$array" || :; done
    done 2>/dev/null
    sync
}
