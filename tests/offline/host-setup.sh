#!/bin/sh
# Repairs the one thing that keeps crun from starting containers on constrained test hosts; does nothing elsewhere.
#
# Where cgroup v1 and v2 are mounted side by side ("hybrid"), crun refuses to start anything while the v2 hierarchy still
# has a controller: "cgroups in hybrid mode not supported, drop all controllers from cgroupv2". Mounting such a controller
# as a v1 hierarchy takes it away from v2. That needs root, holds until the next boot, and changes nothing where v2 is
# mounted alone, as on every current distribution.
set -eu

unified=/sys/fs/cgroup/unified
[ -f "$unified/cgroup.controllers" ] || exit 0

for controller in $(cat "$unified/cgroup.controllers"); do
    if [ "$(id -u)" -ne 0 ]; then
        echo "host-setup: run as root: the cgroup controller $controller has to leave cgroup v2" >&2
        exit 1
    fi
    mkdir -p "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" none "/sys/fs/cgroup/$controller"
    echo "host-setup: moved the cgroup controller $controller from v2 to v1" >&2
done
