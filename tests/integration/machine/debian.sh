#!/bin/bash
# Makes the file systems of a machine of Debian's packages, in a container of them: /out/system.img and /out/boot.img. Its first kernel
# boots with the initrd that initramfs-tools makes here; the second is a package that the machine installs.
# /machine has what the test has put together: the kernels' versions and the sizes, the tree with the program, scripts, our hooks and the
# kernels, GRUB's modules, and a base.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
. /machine/kernels
boot_uuid=0c1d2d00-2222-4000-8000-000000000002 root_uuid=0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d
options="rw console=ttyS0 loglevel=7 printk.devkmsg=on no_timer_check audit=0 lsm=capability mitigations=off systemd.show_status=1
systemd.status_unit_format=combined systemd.log_color=0 systemd.default_device_timeout_sec=240"
options=$(echo $options)
# What the test has put together belongs to whoever runs it.
copy="cp -r --preserve=mode,links,timestamps"

dpkg --purge dracut
dpkg --install /usr/share/initramfs-tools.deb
# What a machine with this disk needs, so that it does not take long without KVM.
printf '%s\n' MODULES=list COMPRESS=gzip >/etc/initramfs-tools/conf.d/machine
printf '%s\n' virtio_pci virtio_blk ext4 >/etc/initramfs-tools/modules

# package VERSION: the package of a kernel, whose scripts do what those of Debian's do, except ask whether the running kernel may go.
package() {
    local tree=/package image=/boot/vmlinuz-$1 script
    mkdir -p $tree/DEBIAN $tree/boot $tree/usr/lib/modules
    $copy "/machine/tree/usr/lib/modules/$1" $tree/usr/lib/modules/
    mv "$tree/usr/lib/modules/$1/vmlinuz" "$tree$image"
    printf '%s\n' "Package: linux-image-$1" "Version: 1" "Architecture: amd64" "Maintainer: Nobody" "Description: A kernel" >$tree/DEBIAN/control
    printf '%s\n' '#!/bin/sh -e' '[ "$1" = configure ] || exit 0' "depmod $1" "linux-update-symlinks install $1 $image" \
        "linux-run-hooks image postinst $1 $image -- \"\$@\"" >$tree/DEBIAN/postinst
    printf '%s\n' '#!/bin/sh -e' "[ \"\$1\" = upgrade ] || linux-update-symlinks remove $1 $image" \
        "linux-run-hooks image postrm $1 $image -- \"\$@\"" "[ \"\$1\" != purge ] || rm -rf /usr/lib/modules/$1" >$tree/DEBIAN/postrm
    chmod 755 $tree/DEBIAN/post*
    dpkg-deb --root-owner-group -Znone --build $tree /var/cache/second.deb
}
package "$second"

$copy /machine/tree/etc/. /etc/
mkdir -p "/usr/lib/modules/$first"
$copy "/machine/tree/usr/lib/modules/$first/." "/usr/lib/modules/$first/"
$copy /machine/tree/usr/lib/machine /machine/tree/usr/lib/ocinitrd-program /usr/lib/
$copy /machine/tree/usr/bin/ocinitrd /usr/bin/
mkdir -p /var/lib/ocinitrd/bases
$copy /machine/base /var/lib/ocinitrd/bases/offline
mv "/usr/lib/modules/$first/vmlinuz" "/boot/vmlinuz-$first"
depmod "$first"

echo 0c1d2d00000040008000000000000001 >/etc/machine-id
printf '%s\n' "UUID=$root_uuid / ext4 defaults 0 1" "UUID=$boot_uuid /boot ext4 defaults 0 2" >/etc/fstab
printf '%s\n' GRUB_TIMEOUT=0 GRUB_TERMINAL=serial 'GRUB_SERIAL_COMMAND="serial --unit=0"' GRUB_DISABLE_OS_PROBER=true \
    "GRUB_CMDLINE_LINUX=\"$options\"" >/etc/default/grub
# The kernel's package has not all of its modules.
ln -s /dev/null /etc/systemd/system/systemd-binfmt.service
ln -s /dev/null /etc/systemd/system/proc-sys-fs-binfmt_misc.automount
update-initramfs -c -k "$first"
mkdir -p /boot/grub
$copy /machine/grub/x86_64-efi /boot/grub/
# What the machine starts with; update-grub makes another of it there.
printf '%s\n' 'serial --unit=0' 'terminal_output serial' "linux /vmlinuz-$first root=UUID=$root_uuid $options" "initrd /initrd.img-$first" boot \
    >/boot/grub/grub.cfg

mkdir /tree /tree/boot /tree/dev /tree/proc /tree/run /tree/sys /tree/tmp
for path in /bin /etc /lib /lib64 /root /sbin /usr /var; do cp -a "$path" /tree/; done
rm -f /tree/etc/resolv.conf /tree/etc/hosts /tree/etc/hostname /tree/usr/share/initramfs-tools.deb
echo debian >/tree/etc/hostname
chmod 1777 /tree/tmp
mke2fs -q -F -t ext4 -U $root_uuid -d /tree /out/system.img "$system_mib"M
mke2fs -q -F -t ext4 -U $boot_uuid -L machine-boot -d /boot /out/boot.img "$boot_mib"M
