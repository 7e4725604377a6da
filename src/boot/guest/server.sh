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
    # The root of what NFSv4 shows, fsid=0, has to be on a file system that can be exported, which this initrd's is not. Its
    # clients see /srv/target as /target; those of NFSv3 name the whole path, so it is there a second time. (nfs-utils 3.1
    # loses `rootdir`, which would do for both, where the kernel asks it over netlink.)
    mkdir -p /srv /run/rpcbind /var/lib/nfs /target
    mount -t tmpfs tmpfs /srv
    mkdir /srv/target
    mount -t "$2" "$1" /srv/target
    mount --bind /srv/target /target
    mount -t nfsd nfsd /proc/fs/nfsd
    : >/etc/nfs.conf
    printf '%s *(%s,no_root_squash,no_subtree_check)\n' /srv ro,fsid=0 /srv/target rw,fsid=1 /target rw,fsid=1 >/etc/exports
    rpcbind
    exportfs -r
    # The shortest time that the kernel lets earlier clients come back in.
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    rpc.nfsd 2
    # There are no earlier clients, so files may be opened at once. Newer kernels end this time early only if a daemon keeps
    # track of clients, which none does here.
    echo Y 2>/dev/null >/proc/fs/nfsd/v4_end_grace || sleep 10
    rpc.mountd
}
