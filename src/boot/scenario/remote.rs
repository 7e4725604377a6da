//! The rows of the table whose root is on a server.
//!
//! The forms of `root=` are those that the generator of nfs-utils takes, nfs.systemd(7), which mounts NFSv3 where the options
//! ask for it. Addresses come by `ip=`, which systemd-network-generator(8) reads, or from the profile `network`.

use super::disks::{EXT4, NONE};
use super::{Expectation, Network, Scenario};
use crate::boot::stage::Stage;

/// A server of NFS that also leases an address, 192.0.2.100.
const NFS: Network = Network::Served("lease_addresses\nexport_nfs /dev/vda1 ext4");

const fn nfs(
    name: &'static str,
    summary: &'static str,
    command_line: &'static str,
    facts: &'static [(&'static str, &'static str)],
) -> Scenario {
    Scenario {
        needs: &["nfs"],
        network: NFS,
        ..Scenario::new(name, summary, &EXT4, command_line, Expectation::Target(facts))
    }
}

pub const NFS3_DHCP: Scenario = nfs(
    "nfs3-dhcp",
    "NFSv3 without locks, root=nfs:, ip=dhcp",
    "root=nfs:192.0.2.1:/target:vers=3,nolock ip=dhcp rw",
    &[
        ("root", "192.0.2.1:/target / nfs rw,"),
        ("nfs.vers", "3"),
        ("nfs.nolock", "nolock"),
        ("nfs.addr", "192.0.2.1"),
        ("address", "192.0.2.100"),
    ],
);

/// The one whose server is not in `nfsroot=`, and which starts rpc.statd and rpcbind in the initrd.
pub const NFS3_STATIC: Scenario = nfs(
    "nfs3-static",
    "NFSv3 with locks, root=/dev/nfs, address and server by ip=",
    "root=/dev/nfs nfsroot=/target,vers=3 ip=192.0.2.2:192.0.2.1::255.255.255.0:::none rw",
    &[
        ("root", "192.0.2.1:/target / nfs rw,"),
        ("nfs.vers", "3"),
        ("nfs.local_lock", "none"),
        ("nfs.addr", "192.0.2.1"),
        ("address", "192.0.2.2"),
    ],
);

pub const NFS4_DHCP: Scenario = nfs(
    "nfs4-dhcp",
    "NFSv4, root=nfs4:, DHCP because nothing says otherwise",
    "root=nfs4:192.0.2.1:/target rw",
    &[
        ("root", "192.0.2.1:/target / nfs4 rw,"),
        ("nfs.vers", "4.2"),
        ("nfs.addr", "192.0.2.1"),
        ("nfs.clientaddr", "192.0.2.100"),
    ],
);

pub const NFS4_STATIC: Scenario = nfs(
    "nfs4-static",
    "NFSv4.1 with options, root=/dev/nfs, address by ip=",
    "root=/dev/nfs nfsroot=192.0.2.1:/target,vers=4.1,timeo=300 ip=192.0.2.2:::255.255.255.0:::none rw",
    &[
        ("root", "192.0.2.1:/target / nfs4 rw,"),
        ("nfs.vers", "4.1"),
        ("nfs.timeo", "300"),
        ("nfs.addr", "192.0.2.1"),
        ("nfs.clientaddr", "192.0.2.2"),
    ],
);

/// mount.nfs(8) tries for a minute here, and else for two.
pub const NFS_DEAD_SERVER: Scenario = Scenario {
    needs: &["nfs"],
    network: Network::Silent,
    ..Scenario::new(
        "nfs-dead-server",
        "a server of NFS that does not answer: must fail, in bounded time, naming it",
        &NONE,
        "root=nfs4:192.0.2.1:/target:retry=1 ip=192.0.2.2:::255.255.255.0:::none rw",
        Expectation::Failure {
            stage: Stage::Mount,
            names: "192.0.2.1:/target",
            last_words: "the root account is locked",
        },
    )
};
