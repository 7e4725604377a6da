# The rivals, mkosi and dracut of Debian trixie, in a container image that is made once, in 3 minutes; sourced by bash behind common.sh.
#
# The image is that of tests/distributions/bench-rivals.recipe. The offline repository is mounted. mkosi needs a privileged container.
# Results are in $work/out-rivals.

DRACUT_PARTS="systemd systemd-cryptsetup lvm crypt mdraid nfs btrfs resume"

make_image() {
    IMAGE=$("$checkout/tests/distributions/image.sh" bench-rivals)
}

# What podman is told beside what all rivals need, such as another directory of kernel modules.
rival_options=()

# contained SHELL_TEXT [OPTION]...: the podman command that runs it in the image, as words in the array `command`. Results are in /out.
contained() {
    local text=$1
    shift
    command=(podman run --rm --network=none --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 -v "$work/out-rivals:/out"
        -v "$checkout/target/offline/repo:/repo:ro" -v "$checkout/target/offline/keys/offline.asc:/offline.asc:ro" "${rival_options[@]}" "$@" "$IMAGE" bash -ec
        "kernel=\$(ls /usr/lib/modules); cd /root; $text")
}

# mkosi NAME DEFINITION LEVEL OPTIONS: as mkosi-initrd calls it, but for the modules: those of its definition, not those of this host.
mkosi() {
    contained "install -D /offline.asc /usr/share/distribution-gpg-keys/fedora/RPM-GPG-KEY-fedora-44-primary
        mkosi --force --directory= --include=$2 --format=cpio --output=$1 --output-directory=/root/made --build-sources= \
            --workspace-dir=/var/tmp --extra-tree=/usr/lib/modules/\$kernel:/usr/lib/modules/\$kernel '--kernel-modules-exclude=.*' \
            --compress-output=zstd --compress-level=$3 $4 build
        cp -L made/$1 /out/$1" --privileged
}

# dracut NAME LEVEL OPTIONS
dracut() {
    contained "dracut --force --quiet --no-hostonly-cmdline --kver \$kernel --compress 'zstd -$2 -T0' $3 /out/$1"
}

# take_our_kernel OUT: from here on the rivals have the kernel modules of that output of ours in the place where they look for them.
take_our_kernel() {
    local rpm
    mkdir -p "$work/kernel"
    for rpm in $(kernel_rpms "$1"); do
        bsdtar -xf "$checkout/target/offline/repo/Packages/$rpm" -C "$work/kernel"
    done
    ln -s usr/lib "$work/kernel/lib"
    depmod -b "$work/kernel" "$(kernel_version)"
    rival_options=(-v "$work/kernel/usr/lib/modules:/usr/lib/modules:ro")
}

# kernel_rpms OUT: the names of the files that its kernel came in, by the manifest.
kernel_rpms() {
    sed -n '/^  "kernels"/,/^  "outputs"/p' "$1/manifest.json" | awk -F'"' '
        $2 == "name" { name = $4 } $2 == "version" { version = $4 } $2 == "release" { release = $4 }
        $2 == "arch" { print name "-" version "-" release "." $4 ".rpm" }'
}

kernel_version() {
    ls "$work/kernel/usr/lib/modules"
}

# generic_dracut NAME LEVEL
generic_dracut() {
    dracut "$1" "$2" "--no-hostonly --add '$DRACUT_PARTS'"
}

# mkosi_of_debs NAME LEVEL: mkosi's own initrd definition, from Debian's packages.
mkosi_of_debs() {
    mkosi "$1" mkosi-initrd "$2" "--distribution=debian --release=trixie --local-mirror=file:///mirror --repository-key-check=no"
}
