#!/bin/bash
# How long a machine takes from `kernel-install add` to the finished entry, with our plugin and with dracut's. Prints a Markdown table.
#
# Usage: host.sh [OCINITRD]      default: target/release/ocinitrd
#
# kernel-install and dracut are those of Debian trixie, in the image of tests/distributions/host-trixie.recipe, with a kernel of the offline
# repository. All is done in one container, and measured in it, by turns, so no time of podman's is counted. CPU time is that of
# kernel-install and of all that it starts. The rows:
#   nobody        no initrd is made: what kernel-install itself does, for all the same. The modules are mounted read-only, so depmod does
#                 not run, which takes as long for all
#   ours-host     scope "host" on a machine whose root is ext4 on a SATA disk and which has the modules of host.modules loaded
#   dracut-host   dracut's host-only selection with its own default parts, and with the modules of ours-host: a container does not show dracut
#                 which are loaded
#   dracut-small  the same with the parts of rivals.sh alone
#   ours-listed   ours-host, and all of host.modules beside: also those for sound, Bluetooth and the like, which no root needs
#   dracut-listed dracut-host with the modules of ours-listed
#   ours-generic  scope "generic", as the base was built for
#   ours-uki      ours-host as a unified kernel image
#   ours-grub     ours-host as GRUB's layout has it, in /boot and after a sync to the disk. The entry is written by the stand-in of
#                 tests/integration/grub. Its rival is dracut-host too: dracut's plugin in Debian knows no other layout
# A container is no machine: ours is told where one is, in /machine, with the files of /proc and /sys that it reads.
# Beside them is the time that the base takes to be built, in a container, with its packages fetched and verified.
set -euo pipefail
# shellcheck source=tests/bench/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/bench/rival-image.sh
. "$(dirname "$0")/rival-image.sh"

RUNS=${OCINITRD_BENCH_RUNS:-5}
# It does not matter which root a container has.
DRACUT_CONF='compress="zstd -3 -T0"\nhostonly_cmdline="no"\nhostonly_default_device="no"'
variants=(nobody ours-host dracut-host dracut-small ours-listed dracut-listed ours-generic ours-uki ours-grub)

# What runs in the container: VARIANT.times gets a line of seconds, of wall clock and of CPU time, for each run.
INSIDE='
configure() {
    cp "/variants/$1.conf" /etc/kernel/install.conf
    cp "/variants/$1.toml" /machine/etc/ocinitrd/host.toml
    cp "/variants/$1.dracut" /etc/dracut.conf.d/bench.conf
}
kernel=$(ls /usr/lib/modules)
TIMEFORMAT="%3R %3U %3S"
for run in $(seq 0 "$RUNS"); do
    for variant in "$@"; do
        configure "$variant"
        rm -rf /boot/*
        # The directory of an entry, which GRUB has none of.
        grep -q "^layout=other" /etc/kernel/install.conf || mkdir "/boot/$(cat /etc/machine-id)"
        { time kernel-install --boot-path=/boot --esp-path=/boot add "$kernel" "/usr/lib/modules/$kernel/vmlinuz" >/tmp/log 2>&1; } 2>/tmp/time || {
            echo "$variant:" >&2
            cat /tmp/log >&2
            exit 1
        }
        # The first run reads the files into the page cache.
        [ "$run" = 0 ] || awk "{ print \$1, \$2 + \$3 }" /tmp/time >>"/out/$variant.times"
        cp "$(find /boot -name initrd -o -name "*.efi" -o -name "initramfs-*" | grep . || echo /etc/machine-id)" "/out/$variant"
    done
done
'

# variant NAME LINES_OF_INSTALL_CONF [LINES_OF_HOST_TOML [LINES_OF_DRACUT_CONF]]
variant() {
    printf '%b\n' "$2" >"$work/variants/$1.conf"
    printf '%b\n' "${3-}" >"$work/variants/$1.toml"
    printf '%b\n' "$DRACUT_CONF" "${4-}" >"$work/variants/$1.dracut"
}

# The machine: its loaded modules, its processor and its root.
make_machine() {
    local root=$work/machine disk=devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0
    mkdir -p "$root"/{etc/ocinitrd,etc/kernel,proc/1,usr/lib/modules,var/lib/ocinitrd/bases/offline}
    mkdir -p "$root/sys/$disk/block/sda/sda2" "$root"/sys/{class/block,dev/block,bus/pci/drivers/ahci,bus/scsi/drivers/sd,module/ahci,module/sd_mod}
    sed '/^#/d; s/$/ 16384 0 - Live 0x0000000000000000/' "$checkout/tests/bench/host.modules" >"$root/proc/modules"
    cp /proc/cpuinfo "$root/proc/cpuinfo"
    echo "20 1 8:2 / / rw - ext4 /dev/sda2 rw" >"$root/proc/1/mountinfo"
    echo "root=LABEL=root rw" >"$root/proc/cmdline"
    cp "$root/proc/cmdline" "$root/etc/kernel/cmdline"
    echo "ID=machine" >"$root/etc/os-release"
    echo 2 >"$root/sys/$disk/block/sda/sda2/partition"
    for name in ahci sd_mod; do echo live >"$root/sys/module/$name/initstate"; done
    ln -s "../../$disk/block/sda" "$root/sys/class/block/sda"
    ln -s "../../$disk/block/sda/sda2" "$root/sys/class/block/sda2"
    ln -s "../../$disk/block/sda/sda2" "$root/sys/dev/block/8:2"
    ln -s ../../../../module/ahci "$root/sys/bus/pci/drivers/ahci/module"
    ln -s ../../../../module/sd_mod "$root/sys/bus/scsi/drivers/sd/module"
    ln -s ../../../bus/pci/drivers/ahci "$root/sys/devices/pci0000:00/0000:00:17.0/driver"
    ln -s ../../../../../../../bus/scsi/drivers/sd "$root/sys/$disk/driver"
}

# The configuration of kernel-install, with our plugins, which are told where the machine is, and of dracut.
make_configuration() {
    local plugin
    mkdir -p "$work"/{boot,variants,etc-kernel/install.d,dracut.conf.d,out-host}
    echo 0c1d2d00000040008000000000000003 >"$work/machine-id"
    echo "root=LABEL=root rw" >"$work/etc-kernel/cmdline"
    for plugin in "$checkout"/packaging/kernel-install/*.install; do
        sed 's,ocinitrd kernel-install [a-z]* "$@",& --root /machine,' "$plugin" >"$work/etc-kernel/install.d/${plugin##*/}"
        chmod 755 "$work/etc-kernel/install.d/${plugin##*/}"
    done
    install -m 755 "$checkout/tests/integration/grub/20-grub.install" "$work/etc-kernel/install.d/"
    # Plugins are run where kernel-install runs, and looked for where the machine is.
    mkdir -p "$work/machine/usr/lib/kernel/install.d" "$work/machine/boot"
    for plugin in 20-grub 90-loaderentry 90-uki-copy; do
        install -m 755 /dev/null "$work/machine/usr/lib/kernel/install.d/$plugin.install"
    done
    variant nobody 'layout=bls\ninitrd_generator=nobody'
    variant ours-host 'layout=bls\ninitrd_generator=ocinitrd'
    variant ours-listed 'layout=bls\ninitrd_generator=ocinitrd' "modules = $(listed_modules)"
    variant ours-generic 'layout=bls\ninitrd_generator=ocinitrd' 'scope = "generic"'
    variant ours-grub 'layout=other\ninitrd_generator=ocinitrd'
    variant ours-uki 'layout=uki\ninitrd_generator=ocinitrd\nuki_generator=ocinitrd'
}

# dracut's, which get the modules that are in ours.
configure_dracut() {
    local small='dracutmodules="systemd base rootfs-block kernel-modules fs-lib udev-rules shutdown"'
    variant dracut-host 'layout=bls\ninitrd_generator=dracut' '' "$(drivers ours-host)"
    variant dracut-small 'layout=bls\ninitrd_generator=dracut' '' "$(drivers ours-host)\n$small"
    variant dracut-listed 'layout=bls\ninitrd_generator=dracut' '' "$(drivers ours-listed)"
}

# drivers VARIANT: the modules in its initrd, as dracut is told.
drivers() {
    echo "drivers=\"$(names_of_modules "$1" | tr '\n' ' ')\""
}

names_of_modules() {
    "$ocinitrd" inspect --list "$work/out-host/$1" | sed -n 's,.*/\([^/]*\)\.ko\(\.[a-z0-9]*\)*$,\1,p'
}

# The names in host.modules as a TOML list.
listed_modules() {
    sed '/^#/d; s/.*/"&"/' "$checkout/tests/bench/host.modules" | paste -sd , | sed 's/.*/[&]/'
}

# build_base: our base, once with its packages fetched and once to be measured, with no result of an earlier build.
build_base() {
    definition offline
    run_measured prepare "$ocinitrd" build "$work/images/offline.toml" -O "$work/out-offline" --engine podman
    forget_results
    run_measured base "$ocinitrd" build "$work/images/offline.toml" -t base -O "$work/out-base" --locked --engine podman
}

# run_variants RUNS VARIANT...: each by turns, after one run that is not counted.
run_variants() {
    local runs=$1
    shift
    podman run --rm --network=none --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 --tmpfs /tmp:rw,size=2g \
        -e RUNS="$runs" -e SYSTEMD_RELAX_ESP_CHECKS=1 -e SYSTEMD_RELAX_XBOOTLDR_CHECKS=1 \
        -v "$ocinitrd:/usr/bin/ocinitrd:ro" -v "$work/kernel/usr/lib/modules:/usr/lib/modules:ro" -v "$work/boot:/boot" -v "$work/boot:/machine/boot" \
        -v "$work/machine-id:/etc/machine-id:ro" -v "$work/etc-kernel:/etc/kernel" -v "$work/dracut.conf.d:/etc/dracut.conf.d" \
        -v "$work/variants:/variants:ro" -v "$work/out-host:/out" -v "$work/machine:/machine" \
        -v "$work/kernel/usr/lib/modules:/machine/usr/lib/modules:ro" -v "$work/out-base:/machine/var/lib/ocinitrd/bases/offline:ro" \
        "$image" bash -euc "$INSIDE" inside "$@" >&2
}

# seconds VARIANT FIELD: the median.
seconds() {
    median "out-host/$1" "$2"
}

modules_in() {
    case $1 in
    nobody) echo 0 ;;
    ours-uki | ours-grub) echo "as ours-host" ;;
    *) names_of_modules "$1" | wc -l ;;
    esac
}

# row VARIANT BESIDE: the ratios are to that one.
row() {
    awk -v name="$1" -v wall="$(seconds "$1" 1)" -v cpu="$(seconds "$1" 2)" -v modules="$(modules_in "$1")" -v beside="$2" \
        -v other_wall="$(seconds "$2" 1)" -v other_cpu="$(seconds "$2" 2)" 'BEGIN {
            printf "| %s | %s | %.2f s | %.2f s | %s | %.2f | %.2f |\n", name, modules, wall, cpu, beside, wall / other_wall, cpu / other_cpu }'
}

begin "$@"
# Not the user's: set after the keyring's place was told by it.
cache_home=$work/cache
image=$("$checkout/tests/distributions/image.sh" host-trixie)
export XDG_CACHE_HOME=$cache_home
build_base
take_our_kernel "$work/out-offline"
make_machine
make_configuration
run_variants 0 ours-host ours-listed
configure_dracut
run_variants "$RUNS" "${variants[@]}"

echo "$machine, median of $RUNS runs that take turns:"
echo
echo "| | modules | time | CPU time | beside | time / that | CPU / that |"
echo "|---|---:|---:|---:|---|---:|---:|"
for name in "${variants[@]}"; do
    case $name in
    *-listed) beside=dracut-listed ;;
    *) beside=dracut-host ;;
    esac
    row "$name" "$beside"
done
printf '| the base, in a container | 0 | %.2f s | %.2f s | | | |\n' "$(median base 1)" "$(median base 2)"
