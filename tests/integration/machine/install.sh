#!/bin/bash
# PID 1 of the guest that installs a machine: it runs from memory over the system that is to be installed, and copies that onto
# the disk. $1: what the root file system lies on, plain (a partition), luks, lvm or array; lvm-changes is lvm with room for what the
# machine makes of it. With grub- before it, GRUB is the boot loader, and /boot has a partition of its own.
export PATH=/usr/sbin:/usr/bin LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
source /usr/lib/machine/common
trap 'fail "installing: $BASH_COMMAND"' ERR
set -E

esp=/dev/vda1 partition=/dev/vda2 target=/target loader=systemd-boot root=$1
[[ $1 != grub-* ]] || loader=grub root=${1#grub-} boot=/dev/vda2 partition=/dev/vda3
for module in virtio_pci virtio_blk ext4 vfat nls_cp437 nls_ascii nls_iso8859-1 dm_mod dm_crypt aes xts raid1; do
    # What this kernel has built in, or calls by another name, is no fault; what is missing shows below.
    modprobe -q "$module" || :
done
for ((tries = 0; tries < 100; tries++)); do [[ -b $partition ]] && break; sleep 0.1; done
# Nobody answers for udev here.
export DM_DISABLE_UDEV=1

options="rw console=ttyS0 loglevel=7 printk.devkmsg=on no_timer_check audit=0 lsm=capability mitigations=off
systemd.show_status=1 systemd.status_unit_format=combined systemd.log_color=0 systemd.default_device_timeout_sec=240"
case $root in
luks)
    mkdir -p /run/cryptsetup
    head -c 64 /dev/urandom >/run/key
    cryptsetup luksFormat --batch-mode --type luks2 --uuid 0c1d2d00-1111-4000-8000-000000000001 \
        --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /run/key $partition
    cryptsetup open --key-file /run/key $partition root
    device=/dev/mapper/root
    options="root=$device $options"
    ;;
array)
    # One disk is enough for an array; its name, 0, is that of this host alone.
    MDADM_NO_UDEV=1 mdadm --create /dev/md0 --run --force --homehost=myhost --name=0 --level=1 --raid-devices=1 $partition
    device=/dev/md0
    options="root=$device $options"
    ;;
lvm | lvm-changes)
    size=(-l 100%FREE)
    [[ $root == lvm ]] || size=(-L 1000M)
    mkdir -p /run/lock/lvm /run/lvm
    lvm pvcreate -q -y $partition
    lvm vgcreate -q -y machine $partition
    lvm lvcreate -q -y "${size[@]}" -n root machine
    device=/dev/machine/root
    # What udev does where it runs.
    [[ -b $device ]] || device=/dev/mapper/machine-root
    options="root=/dev/machine/root $options"
    ;;
plain)
    device=$partition
    options="root=UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d $options"
    ;;
esac
[[ $loader != grub ]] || mkfs.ext4 -q -F -U 0c1d2d00-2222-4000-8000-000000000002 -L machine-boot $boot
mkfs.ext4 -q -F -U 0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d $device
mkfs.vfat -F 32 -i 0C1D2D00 $esp >/run/mkfs

say "copying the system"
mkdir $target
mount -t ext4 $device $target
for path in /*; do
    case $path in
    # Of an initrd, and of this guest alone.
    /init | $target | /dev | /proc | /run | /sys) ;;
    *) cp -a "$path" $target/ ;;
    esac
done
rm $target/etc/initrd-release $target/etc/systemd/system/default.target
mkdir -p $target/{dev,proc,run,sys,boot} $target/etc/ocinitrd
if [[ $loader == grub ]]; then
    mount -t ext4 $boot $target/boot
    mkdir $target/boot/efi
    mount -t vfat $esp $target/boot/efi
else
    mount -t vfat $esp $target/boot
fi

echo 0c1d2d00000040008000000000000001 >$target/etc/machine-id
{
    echo "UUID=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d / ext4 defaults 0 1"
    if [[ $loader == grub ]]; then
        echo "UUID=0c1d2d00-2222-4000-8000-000000000002 /boot ext4 defaults 0 2"
        echo "UUID=0C1D-2D00 /boot/efi vfat umask=0077 0 2"
    else
        echo "UUID=0C1D-2D00 /boot vfat umask=0077 0 2"
    fi
} >$target/etc/fstab
if [[ $root == luks ]]; then
    install -m 600 /run/key $target/etc/root.key
    echo "root UUID=0c1d2d00-1111-4000-8000-000000000001 /etc/root.key x-initrd.attach" >$target/etc/crypttab
fi
[[ $root != array ]] || echo myhost >$target/etc/hostname
echo "$1" >$target/usr/lib/machine/life
echo "$options" >$target/etc/kernel/cmdline
if [[ $loader == grub ]]; then
    boot_root=/boot/efi
    echo 'initrd_generator=ocinitrd' >$target/etc/kernel/install.conf
    # What grub2-install and grub2-mkconfig do.
    mkdir -p $target/boot/efi/EFI/BOOT $target/boot/grub2
    cp $target/usr/lib/machine/grub.efi $target/boot/efi/EFI/BOOT/BOOTX64.EFI
    cp $target/usr/lib/machine/grub.cfg $target/boot/grub2/
else
    boot_root=/boot
    printf 'layout=bls\ninitrd_generator=ocinitrd\n' >$target/etc/kernel/install.conf
    mkdir -p $target/boot/EFI/BOOT $target/boot/loader
    # What `bootctl install` does; its package is not in the repository.
    cp $target/usr/lib/systemd/boot/efi/systemd-bootx64.efi $target/boot/EFI/BOOT/BOOTX64.EFI
    echo "timeout 0" >$target/boot/loader/loader.conf
fi

# As an installer does it: another system runs, so the modules are those for any machine.
echo 'scope = "generic"' >$target/etc/ocinitrd/host.toml
mount --bind /proc $target/proc
mount --bind /sys $target/sys
mount --bind /dev $target/dev
install_kernel chroot $target env BOOT_ROOT=$boot_root kernel-install add "$first" "/usr/lib/modules/$first/vmlinuz"
# From now on, as the machine itself does it.
echo 'scope = "host"' >$target/etc/ocinitrd/host.toml

[[ $loader != grub ]] || umount $target/boot/efi
umount $target/{dev,sys,proc,boot} $target
case $root in
luks) cryptsetup close root ;;
lvm*) lvm vgchange -q -an ;;
array) mdadm --stop /dev/md0 ;;
esac
say done
power_off
