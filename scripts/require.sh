#!/bin/sh
# Makes sure that programs are there: scripts/require.sh PROGRAM...
# What is missing is installed with apt-get or dnf, as root or through sudo; without either, what to install is printed.
set -eu

# PROGRAM  Debian's and Ubuntu's package  Fedora's package (- for none)
table='
apt-get             apt                    apt
bsdtar              libarchive-tools       bsdtar
bzip2               bzip2                  bzip2
c++                 g++                    gcc-c++
cc                  gcc                    gcc
cpio                cpio                   cpio
createrepo_c        createrepo-c           createrepo_c
crun                crun                   crun
debian-archive-keyring  debian-archive-keyring  debian-keyring
depmod              kmod                   kmod
dracut              dracut-core            dracut
dpkg-shlibdeps      dpkg-dev               dpkg-dev
faketime            faketime               libfaketime
firmware-keys       ovmf                   python3-virt-firmware
fsck.vfat           dosfstools             dosfstools
gpg                 gnupg                  gnupg2
ip                  iproute2               iproute
kernel-install      systemd                systemd-udev
libc-headers        libc6-dev              glibc-devel
lz4                 lz4                    lz4
mandoc              mandoc                 mandoc
mkinitramfs         initramfs-tools-core   -
mmdebstrap          mmdebstrap             mmdebstrap
newuidmap           uidmap                 shadow-utils
openssl             openssl                openssl
pkcs11-engine       libengine-pkcs11-openssl  openssl-pkcs11
podman              podman                 podman
qemu-system-x86_64  qemu-system-x86        qemu-system-x86-core
registry-server     docker-registry        docker-distribution
rpm                 rpm                    rpm
rpmbuild            rpm                    rpm-build
rpmlint             rpmlint                rpmlint
rpmsign             rpm                    rpm-sign
runuser             util-linux             util-linux
sbsign              sbsigntool             sbsigntools
sfdisk              fdisk                  util-linux
skopeo              skopeo                 skopeo
softhsm2-util       softhsm2               softhsm
strace              strace                 strace
strip               binutils               binutils
swtpm               swtpm                  swtpm
uefi-firmware       ovmf                   edk2-ovmf
xz                  xz-utils               xz
zstd                zstd                   zstd
'

# Either package manager may be installed on the other's distribution.
family=$(sed -n 's/^ID\(_LIKE\)*=//p' /etc/os-release 2> /dev/null | tr -d '"')
case " $(echo "$family" | tr '\n' ' ') " in
    *" debian "*) manager=apt-get ;;
    *" fedora "*) manager=dnf ;;
    *) manager=$(command -v apt-get || command -v dnf || true) ;;
esac
case ${manager##*/} in
    apt-get) column=2 install='apt-get install -y --no-install-recommends' ;;
    dnf) column=3 install='dnf install -y' ;;
    *) column=2 install= ;;
esac

# What is no program is told by one of its files.
is_there() {
    case $1 in
        debian-archive-keyring) [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ;;
        # Variables with a key for tests, or what writes such.
        firmware-keys) [ -e /usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd ] || command -v virt-fw-vars > /dev/null ;;
        libc-headers) [ -e /usr/include/stdio.h ] ;;
        # What OpenSSL reaches tokens by.
        pkcs11-engine) ls /usr/lib*/*/engines-*/pkcs11.so /usr/lib*/engines-*/pkcs11.so 2> /dev/null | grep -q . ;;
        # It has two names.
        registry-server) command -v docker-registry > /dev/null || command -v registry > /dev/null ;;
        # QEMU's descriptors of firmware: for other architectures they are in the same directory.
        uefi-firmware) grep -qs '"architecture" *: *"x86_64"' /usr/share/qemu/firmware/*.json ;;
        *) command -v "$1" > /dev/null ;;
    esac
}

packages=
for program in "$@"; do
    is_there "$program" && continue
    package=$(echo "$table" | awk -v program="$program" -v column="$column" '$1 == program { print $column }')
    case $package in
        '') echo "require.sh: no package is known for the program $program" >&2; exit 1 ;;
        -) echo "this distribution has no package with $program: the tests that need it are left out"; continue ;;
    esac
    # One package may have several of the programs.
    case "$packages " in
        *" $package "*) ;;
        *) packages="$packages $package" ;;
    esac
done
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    become=
elif command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
    # Without a terminal nobody can be asked for a password.
    become=sudo
else
    become=none
fi
if [ -z "$install" ] || [ "$become" = none ]; then
    echo "Programs are missing. As root, install these packages, then run make again:" >&2
    echo "    ${install:-(your package manager)}$packages" >&2
    exit 1
fi

echo "installing:$packages"
export DEBIAN_FRONTEND=noninteractive
if [ "$column" = 2 ]; then
    $become apt-get update -qq
fi
# shellcheck disable=SC2086 # several words each
$become $install $packages > /dev/null
