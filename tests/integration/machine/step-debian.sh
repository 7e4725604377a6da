#!/bin/bash
# What the machine of Debian's packages does each time it has booted: tells what it sees, then installs or removes a kernel and reboots, or
# is done.
source /usr/lib/machine/common
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
trap 'fail "step $step: $BASH_COMMAND"' ERR
set -E
shopt -s nullglob

step=$(cat /var/lib/machine/step 2>/run/none || echo 1)
fact() { say "fact $step.$1 ${*:2}"; }
# maker KVER: whose initrd it has.
maker() {
    local sum
    sum=$(sha256sum <"/boot/initrd.img-$1")
    if grep -qs "\"sha256\": \"sha256:${sum%% *}\"" "/var/lib/ocinitrd/installed/$1.json"; then echo ocinitrd; else echo another; fi
}
# boot NAME: what is in /boot, and what GRUB's menu has of it.
boot() {
    fact "$1.boot" "$(cd /boot && echo .initrd* initrd* vmlinuz*)"
    fact "$1.menu" "$(grep -o '/initrd.img[^ ]*' /boot/grub/grub.cfg | sort -u | tr '\n' ' ')"
    fact "$1.link" "$(readlink /initrd.img || :)"
}

fact kernel "$(uname -r)"
fact cmdline "$(cat /proc/cmdline)"
while read -r source point rest; do
    case $point in
    / | /boot) fact "mount.$point" "$source $rest" ;;
    esac
done </proc/mounts
fact failed "$(systemctl --failed --no-legend --plain)"
initrd=/boot/initrd.img-$(uname -r)
trial=/boot/ocinitrd-trial-$(uname -r).img
# The trial is started once.
if ((step == 2)); then started=$trial; else started=$initrd; fi
fact size $(($(stat -c %s "$started") / 1024)) "$(dmesg | sed -n 's/.*Freeing initrd memory: \([0-9]*\)K.*/\1/p')"
fact maker "$(maker "$(uname -r)")"

mkdir -p /var/lib/machine
echo $((step + 1)) >/var/lib/machine/step
case $step in
1)
    install_kernel update-grub
    boot before
    before=$(sha256sum <"$initrd")
    install_kernel ocinitrd kernel-install setup
    [[ $before == "$(sha256sum <"$initrd")" ]] || fail "setup changed the initrd that is there"
    install_kernel grub-reboot "ocinitrd-trial-$(uname -r)"
    ;;
2)
    install_kernel dpkg --install /var/cache/second.deb
    boot installed
    fact mode "$(stat -c %a "/boot/initrd.img-$second")"
    ;;
3)
    before=$(stat -c %i "$initrd")
    install_kernel update-initramfs -u
    [[ $(stat -c %i "$initrd") != "$before" ]] || fail "the initrd was not made again"
    fact updated "$(maker "$second")"
    boot updated
    ;;
4)
    install_kernel update-initramfs -u -k "$first"
    fact asked "$(maker "$first")"
    install_kernel ocinitrd kernel-install setup --undo
    install_kernel update-initramfs -u -k "$first"
    fact unasked "$(maker "$first")"
    install_kernel dpkg --purge "linux-image-$second"
    boot removed
    fact left "$(echo /var/lib/ocinitrd/installed/* /var/lib/ocinitrd/setup/* /boot/ocinitrd* /boot/grub/custom* /etc/kernel/install*)"
    ;;
*)
    say done
    systemctl --no-block poweroff
    exit
    ;;
esac
sync
systemctl --no-block reboot
