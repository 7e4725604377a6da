# Makes disks: the scenario's recipe follows, which calls the functions below.
devices=/dev
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
set -eE
trap 'fail "making the disks: $BASH_COMMAND (exit code $?)"' ERR
need cp mkdir modprobe mount sync umount
load_modules virtio_pci virtio_blk

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
    mkdir -p "$1"/{dev,etc,proc,run,sys,tmp} "$1"/usr/{bin,lib,lib64}
    ln -s usr/bin "$1/bin"
    ln -s usr/bin "$1/sbin"
    ln -s usr/lib "$1/lib"
    ln -s usr/lib64 "$1/lib64"
    ln -s bin "$1/usr/sbin"
    printf 'ID=ocinitrd-target\nNAME="ocinitrd boot target"\n' >"$1/usr/lib/os-release"
    ln -s ../usr/lib/os-release "$1/etc/os-release"
    install_program bash "$1"
    # Where the loader was told of a library's directory by ldconfig, it has to be told again.
    [[ ! -f /etc/ld.so.cache ]] || cp /etc/ld.so.cache "$1/etc/"
    cp /ocinitrd/target-init "$1/usr/bin/init"
}
