#!/bin/bash
# What the machine does each time it has booted: tells what it sees, then installs a kernel and reboots, or is done.
source /usr/lib/machine/common
trap 'fail "step $step: $BASH_COMMAND"' ERR
set -E
shopt -s nullglob

step=$(cat /var/lib/machine/step 2>/run/none || echo 1)
fact() { say "fact $step.$1 ${*:2}"; }

# efi_variable NAME: its text, which is UTF-16 behind four bytes of attributes. In these files nobody can seek, as tail would.
efi_variable() {
    local file=/sys/firmware/efi/efivars/$1-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
    [[ ! -e $file ]] || tr -d '\000-\007' <"$file"
}

fact kernel "$(uname -r)"
fact entry "$(efi_variable LoaderEntrySelected)"
fact stub "$(efi_variable StubInfo)"
fact cmdline "$(cat /proc/cmdline)"
while read -r source point rest; do
    [[ $point != / ]] || fact root "$source $rest"
done </proc/mounts
for device in /sys/class/block/dm-*; do
    slaves=("$device"/slaves/*)
    fact "dm.$(cat "$device/dm/name")" "$(cat "$device/dm/uuid") on ${slaves[*]##*/}"
done
for device in /sys/class/block/md*; do
    slaves=("$device"/slaves/*)
    fact "array.${device##*/}" "$(cat "$device/md/level") on ${slaves[*]##*/}"
done
fact hostname "$(uname -n)"
fact failed "$(systemctl --failed --no-legend --plain)"
fact modules "$(wc -l </proc/modules)"

add() { install_kernel kernel-install add "$second" "/usr/lib/modules/$second/vmlinuz"; }
done_here() {
    say done
    systemctl --no-block poweroff
    exit
}
reboot_here() {
    sync
    systemctl --no-block reboot
    exit
}
mkdir -p /var/lib/machine
echo $((step + 1)) >/var/lib/machine/step
life=$(cat /usr/lib/machine/life)
case $life.$step in
lvm-changes.1)
    # The kernel is installed first: what is changed afterwards, its initrd has not seen.
    add
    lvm lvcreate -q -y -s -L 100M -n before machine/root
    reboot_here
    ;;
lvm-changes.2)
    lvm lvremove -q -y machine/before
    lvm pvcreate -q -y /dev/vda3
    lvm vgextend -q machine /dev/vda3
    lvm lvconvert -q -y --type raid1 -m 1 machine/root
    reboot_here
    ;;
array.1)
    add
    reboot_here
    ;;
lvm-changes.* | array.*) done_here ;;
esac
case $step in
1)
    add
    fact entries "$(cd /boot && echo loader/entries/* EFI/Linux/*)"
    ;;
2)
    # The same kernel as a unified kernel image, in place of its entry.
    kernel-install remove "$second"
    fact removed "$(cd /boot && echo loader/entries/* EFI/Linux/* */*/linux)"
    printf 'layout=uki\ninitrd_generator=ocinitrd\nuki_generator=ocinitrd\n' >/etc/kernel/install.conf
    add
    fact entries "$(cd /boot && echo loader/entries/* EFI/Linux/*)"
    ;;
*) done_here ;;
esac
reboot_here
