#!/bin/bash
# PID 1 of a guest that works for a boot test. It is put beside the files of the initrd under test, and uses their programs.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
shopt -s dotglob globstar nullglob
cd / || exit

say() { printf '<2>ocinitrd: %.800s\n' "$*" >"$devices/kmsg"; }

power_off() {
    sync
    echo o >"${1:-/proc}/sysrq-trigger"
    while :; do sleep 60; done
}

fail() {
    say failed "$*"
    power_off
}

# need PROGRAM...: stops with the name of the first that the initrd lacks.
need() {
    local program
    for program; do
        type -P "$program" >/dev/null && continue
        say missing "$program"
        power_off
    done
}

load_modules() {
    local module
    # What is built in, or not needed by this kernel, is no fault; what is missing shows as a missing device.
    for module; do modprobe -q "$module" || :; done
}

wait_for() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [[ -b $1 ]] && return
        sleep 0.1
    done
    fail "the device $1 does not appear"
}
