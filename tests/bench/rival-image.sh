# The rivals, mkosi and dracut of Debian trixie, in a container image that is made once; sourced by bash behind common.sh.
#
# In the image localhost/ocinitrd/bench-rivals is what they need without a network: Debian's packages for mkosi's initrd as a mirror in a
# directory, and Debian's generic kernel. It is made in 3 minutes, from Debian's archive: that of DEBIAN_MIRROR or of this machine's apt;
# `podman rmi` it to have it made anew. The offline repository is mounted. mkosi needs a privileged container. Results are in
# $work/out-rivals.

# The digit is raised when what is in the image changes.
IMAGE=localhost/ocinitrd/bench-rivals:1
SUITE=trixie
PACKAGES=mkosi,dracut,dracut-network,cryptsetup,systemd-cryptsetup,lvm2,mdadm,nfs-common,btrfs-progs,dosfstools,xfsprogs,tpm2-tools
PACKAGES+=,libfido2-1,zstd,dpkg-dev,jq,systemd-sysv,systemd-container,systemd-resolved,iproute2,iputils-arping,dhcpcd-base,dnf,rpm
DRACUT_PARTS="systemd systemd-cryptsetup lvm crypt mdraid nfs btrfs resume"
MKOSI=/usr/lib/python3/dist-packages/mkosi/resources/mkosi-initrd

# Shell text that runs in the image: the kernel, the mirror, and mkosi's definition without its package names.
CUSTOMIZE='
set -eu
cd /tmp
apt="apt-get -qq -o APT::Sandbox::User=root"
$apt download $(apt-cache depends linux-image-amd64 | sed -n "s/ *Depends: //p")
dpkg-deb -x linux-image-*.deb kernel
version=$(ls kernel/usr/lib/modules)
mkdir -p /usr/lib/modules
mv "kernel/usr/lib/modules/$version" /usr/lib/modules/
mv "kernel/boot/vmlinuz-$version" "/usr/lib/modules/$version/vmlinuz"
depmod "$version"
rm -rf kernel linux-image-*.deb

mkdir -p /mirror/partial
cd /mirror
mkosi --directory= --include=mkosi-initrd --distribution=debian --release=SUITE --json summary > /tmp/summary.json
$apt -o Dir::State::status=/dev/null -o Dir::Cache::archives=/mirror -y --no-install-recommends --download-only \
    install "?essential" base-files $(jq -r ".Images[0].Packages[]" /tmp/summary.json)
rm -rf partial lock
index=main/binary-amd64
mkdir -p dists/SUITE/$index
dpkg-scanpackages . /dev/null > dists/SUITE/$index/Packages 2> /dev/null
{
    printf "Suite: SUITE\nCodename: SUITE\nArchitectures: amd64\nComponents: main\nDate: %s\nSHA256:\n" "$(date -Ru)"
    echo " $(sha256sum < dists/SUITE/$index/Packages | cut -d" " -f1) $(stat -c %s dists/SUITE/$index/Packages) $index/Packages"
} > dists/SUITE/Release

cp -r MKOSI /mkosi-initrd
find /mkosi-initrd -name "*.conf" | while read -r file; do
    awk "/^(Remove)?Packages=/ { skip = 1; next } /^[^ \t#]/ { skip = 0 } !skip" "$file" > /tmp/conf
    cp /tmp/conf "$file"
done
'

mirror() {
    local site=${DEBIAN_MIRROR-}
    [ -n "$site" ] || site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | sed 's,/*$,,' | grep -m 1 '/debian$') || true
    [ -n "$site" ] || { echo "$0: Debian's archive is not known: set DEBIAN_MIRROR to the address of a mirror" >&2; exit 1; }
    echo "deb [signed-by=$(keyring)] $site $SUITE main"
}

# The offline repository's set-up has found a newer one, where it was needed.
keyring() {
    local newer=${OCINITRD_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ocinitrd-tests}/apt/archive-keyring.gpg
    if [ -e "$newer" ]; then echo "$newer"; else echo /usr/share/keyrings/debian-archive-keyring.gpg; fi
}

make_image() {
    podman image exists "$IMAGE" && return
    echo "making the image $IMAGE, which takes some minutes" >&2
    echo "$CUSTOMIZE" | sed "s,SUITE,$SUITE,g; s,MKOSI,$MKOSI,g" >"$work/customize"
    mmdebstrap --quiet --variant=minbase --architectures=amd64 --include="$PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --customize-hook="cp '$work/customize' \"\$1/\" && chroot \"\$1\" sh /customize && rm \"\$1/customize\"" \
        "$SUITE" "$work/rivals.tar" "$(mirror)" >&2
    podman import --quiet "$work/rivals.tar" "$IMAGE" >/dev/null
    rm "$work/rivals.tar"
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
    mkosi "$1" mkosi-initrd "$2" "--distribution=debian --release=$SUITE --local-mirror=file:///mirror --repository-key-check=no"
}
