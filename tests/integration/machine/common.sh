# What the scripts of the machine share: its words go to the kernel's log, which never tears a line apart.
say() { printf '<2>machine: %.800s\n' "$*" >/dev/kmsg; }

power_off() {
    sync
    echo o >/proc/sysrq-trigger
    while :; do sleep 60; done
}

fail() {
    say "failed: $*"
    power_off
}

# install_kernel COMMAND...: runs it, and hands on what it says.
install_kernel() {
    local line code=0 started=$SECONDS
    "$@" >/run/said 2>&1 || code=$?
    while read -r line; do say "kernel-install: $line"; done </run/said
    say "$* took $((SECONDS - started)) s"
    ((code == 0)) || fail "kernel-install: exit code $code"
}
