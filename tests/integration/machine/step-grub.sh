#!/bin/bash
# What the machine with GRUB does each time it has booted: tells what it sees, then installs or removes a kernel and reboots, or is done.
source /usr/lib/machine/common
trap 'fail "step $step: $BASH_COMMAND"' ERR
set -E
shopt -s nullglob

step=$(cat /var/lib/machine/step 2>/run/none || echo 1)
fact() { say "fact $step.$1 ${*:2}"; }
boot() { (cd /boot && echo loader/entries/* initramfs-* .initramfs-* vmlinuz-* efi/EFI/Linux/*); }

# kernel_on FILE_SYSTEM: with /boot on another file system the second kernel is installed, twice, and removed.
kernel_on() {
    local image=/var/lib/machine/boot-image options=loop
    rm -f $image
    truncate -s 400M $image
    case $1 in
    vfat)
        mkfs.vfat -F 32 $image >/run/said
        options+=,umask=0077
        ;;
    btrfs)
        mkfs.btrfs -q $image
        mkdir -p /run/whole
        mount -o loop $image /run/whole
        btrfs -q subvolume create /run/whole/boot
        umount /run/whole
        options+=,subvol=boot
        ;;
    esac
    mount -t "$1" -o $options $image /boot
    install_kernel kernel-install add "$second" "/usr/lib/modules/$second/vmlinuz"
    install_kernel kernel-install add "$second" "/usr/lib/modules/$second/vmlinuz"
    fact "$1.added" "$(boot)"
    fact "$1.mode" "$(stat -c %a "/boot/initramfs-$second.img")"
    install_kernel kernel-install remove "$second"
    fact "$1.removed" "$(boot)"
    umount /boot
}

fact kernel "$(uname -r)"
fact cmdline "$(cat /proc/cmdline)"
while read -r source point rest; do
    case $point in
    / | /boot | /boot/efi) fact "mount.$point" "$source $rest" ;;
    esac
done </proc/mounts
fact failed "$(systemctl --failed --no-legend --plain)"
for device in /sys/class/block/dm-*; do
    slaves=("$device"/slaves/*)
    fact "dm.$(cat "$device/dm/name")" "$(cat "$device/dm/uuid") on ${slaves[*]##*/}"
done
# The initrd that its entry names, whose size is that of the one that the kernel unpacked, has a file that tells of dracut.
initrd=/boot/initramfs-$(uname -r).img
fact size $(($(stat -c %s "$initrd") / 1024)) "$(dmesg | sed -n 's/.*Freeing initrd memory: \([0-9]*\)K.*/\1/p')"
fact dracut "$(grep -a -c lib/dracut/build-parameter.txt "$initrd" || :)"

done_here() {
    say done
    systemctl --no-block poweroff
    exit
}
life=$(cat /usr/lib/machine/life)
mkdir -p /var/lib/machine
echo $((step + 1)) >/var/lib/machine/step
case $step in
1)
    install_kernel kernel-install add "$second" "/usr/lib/modules/$second/vmlinuz"
    fact boot "$(boot)"
    fact mode "$(stat -c %a "/boot/initramfs-$second.img")"
    ;;
2)
    install_kernel kernel-install remove "$second"
    fact removed "$(boot)"
    # What dracut puts into its initrd here finds no other root.
    [[ $life == grub-plain ]] || done_here
    # Back to dracut, which the plugin that stands in for Fedora's starts.
    rm /etc/kernel/install.conf
    ours=$(sha256sum "/boot/initramfs-$first.img")
    depmod "$first"
    install_kernel kernel-install add "$first" "/usr/lib/modules/$first/vmlinuz"
    [[ $ours != "$(sha256sum "/boot/initramfs-$first.img")" ]] || fail "the initrd is the same"
    fact boot "$(boot)"
    ;;
*)
    echo 'initrd_generator=ocinitrd' >/etc/kernel/install.conf
    kernel_on vfat
    kernel_on btrfs
    done_here
    ;;
esac
sync
systemctl --no-block reboot
