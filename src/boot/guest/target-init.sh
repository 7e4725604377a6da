#!/bin/bash
# PID 1 of the target: says what it sees. Its root file system holds no program but this shell.
shopt -s nullglob
say() { printf '<2>ocinitrd: %.800s\n' "$*" >/dev/kmsg; }

# name_of BLOCK_DEVICE: as people call it, which for a mapped device is not dm-0.
name_of() {
    name=$1
    [[ ! -e /sys/class/block/$1/dm/name ]] || read -r name <"/sys/class/block/$1/dm/name"
}

# names_of DIRECTORY...: the names of these devices, sorted.
names_of() {
    local path i j
    names=()
    for path; do
        name_of "${path##*/}"
        names+=("$name")
    done
    for ((i = 0; i < ${#names[@]}; i++)); do
        for ((j = i + 1; j < ${#names[@]}; j++)); do
            [[ ${names[i]} < ${names[j]} ]] || { name=${names[i]}; names[i]=${names[j]}; names[j]=$name; }
        done
    done
}

# A splash screen of the initrd keeps the kernel from printing and prints for it, until the system ends it.
for process in /proc/[0-9]*; do
    read -r program 2>/dev/null <"$process/comm" || continue
    [[ $program != plymouthd ]] || { kill -KILL "${process##*/}" && echo 4 >/proc/sys/kernel/printk; }
done

read -r uptime _ </proc/uptime
say fact uptime "$uptime"
while read -r source point rest; do
    case $point in
    /)
        root="$source $point $rest"
        options=${rest#* }
        options=${options%% *}
        [[ $rest == nfs* ]] || options=
        ;;
    /usr) say fact usr "$source $point $rest" ;;
    esac
done </proc/mounts
say fact root "$root"
# Of a root on a server every option: among them are the version and the addresses.
options=${options:+$options,}
while [[ $options ]]; do
    option=${options%%,*}
    options=${options#*,}
    say fact "nfs.${option%%=*}" "${option#*=}"
done
# The addresses of this guest, if it has a network.
if [[ -r /proc/net/fib_trie ]]; then
    while read -r mark address _; do
        case $mark in
        '|--') leaf=$address ;;
        /32) [[ $address != host || $leaf == 127.* ]] || say fact address "$leaf" ;;
        esac
    done </proc/net/fib_trie
fi
for device in /sys/class/block/dm-*; do
    read -r uuid <"$device/dm/uuid"
    names_of "$device"/slaves/*
    kind=${uuid%%-*}
    [[ $kind != CRYPT ]] || kind=${uuid%"${uuid#CRYPT-*-}"}
    read -r mapped <"$device/dm/name"
    say fact "dm.$mapped" "${kind%-} on ${names[*]}"
done
for device in /sys/class/block/md*/md; do
    read -r level <"$device/level"
    read -r degraded <"$device/degraded"
    names_of "${device%/md}"/slaves/*
    say fact md "$level degraded $degraded on ${names[*]}"
done
for device in /sys/fs/btrfs/*-*/devices; do
    names_of "$device"/*
    say fact btrfs "${names[*]}"
done
# What a TPM was told of a unified kernel image, and of the phases of the boot.
if [[ -r /sys/class/tpm/tpm0/pcr-sha256/11 ]]; then
    read -r pcr </sys/class/tpm/tpm0/pcr-sha256/11
    say fact pcr11 "${pcr,,}"
fi
read -r command_line </proc/cmdline
say fact cmdline "$command_line"
if [[ $command_line == *ocinitrd.hibernate* ]]; then
    swap=${command_line#*resume=}
    swap=${swap%% *}
    swapon "${swap/#UUID=//dev/disk/by-uuid/}"
    while read -r source _; do [[ $source != /dev/* ]] || say fact swap "$source"; done </proc/swaps
    read -r token </proc/sys/kernel/random/uuid
    read -r boot </proc/sys/kernel/random/boot_id
    say fact token "$token $boot"
    echo shutdown >/sys/power/disk
    echo disk >/sys/power/state
    # Here another guest goes on, if it was woken up with this one's memory.
    read -r boot </proc/sys/kernel/random/boot_id
    say fact awake "$token $boot"
    read -r uptime _ </proc/uptime
    say fact uptime "$uptime"
fi
say done
echo o >/proc/sysrq-trigger
while :; do read -r -t 60 _ </dev/console; done
