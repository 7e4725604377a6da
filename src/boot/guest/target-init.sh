#!/bin/bash
# PID 1 of the target: says what it sees. Its root file system holds no program but this shell.
say() { printf '<2>ocinitrd: %.800s\n' "$*" >/dev/kmsg; }

read -r uptime _ </proc/uptime
say fact uptime "$uptime"
while read -r source point rest; do
    [[ $point == / ]] && root="$source $point $rest"
done </proc/mounts
say fact root "$root"
read -r command_line </proc/cmdline
say fact cmdline "$command_line"
say done
echo o >/proc/sysrq-trigger
while :; do read -r -t 60 _ </dev/console; done
