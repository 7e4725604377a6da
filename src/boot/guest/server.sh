# Serves disks to another guest: the script of a server is run at the end, and calls the functions below.
devices=/dev
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
set -eE
trap 'fail "serving: $BASH_COMMAND (exit code $?)"' ERR
need ip mkdir modprobe mount sleep
load_modules virtio_pci virtio_blk virtio_net
# The ports that programs look up by name: an initrd has no list of them.
printf '%s\n' 'nfs 2049/tcp' 'nfs 2049/udp' 'sunrpc 111/tcp portmapper rpcbind' 'sunrpc 111/udp portmapper rpcbind' \
    >/etc/services
ip link set lo up
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up

# lease_addresses: the one address 192.0.2.100 by DHCP, without names and routes.
lease_addresses() {
    need dnsmasq
    load_modules af_packet
    dnsmasq --conf-file= --user=root --port=0 --interface=eth0 --dhcp-authoritative \
        --dhcp-range=192.0.2.100,192.0.2.100,1h --dhcp-option=option:router --dhcp-option=option:dns-server \
        --pid-file= --dhcp-leasefile=/run/leases
}

# export_nfs DEVICE TYPE: the file system of a disk as /target, by NFSv3 and NFSv4.
export_nfs() {
    need exportfs rpc.mountd rpc.nfsd rpcbind
    wait_for "$1"
    load_modules "$2" nfsd
    # The root of what NFSv4 shows has to be on a file system that can be exported, which this initrd's is not.
    mkdir -p /srv /run/rpcbind /var/lib/nfs
    mount -t tmpfs tmpfs /srv
    mkdir /srv/target
    mount -t "$2" "$1" /srv/target
    mount -t nfsd nfsd /proc/fs/nfsd
    printf '[exports]\nrootdir=/srv\n' >/etc/nfs.conf
    echo '/target *(rw,no_root_squash,no_subtree_check,fsid=1)' >/etc/exports
    rpcbind
    exportfs -r
    rpc.nfsd 2
    # Nobody was served before: nothing has to be waited for until files may be opened.
    echo Y >/proc/fs/nfsd/v4_end_grace
    rpc.mountd
}
