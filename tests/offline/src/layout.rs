//! Where a file of Debian lies in Fedora: a path or link of Debian's layout in, one of Fedora's out.
//!
//! Fedora has one `/usr/bin` for all programs, `/usr/lib64` for libraries, and keeps kernels below `/usr/lib/modules`.
//! `filesystem` has a link `/usr/lib/x86_64-linux-gnu` for the paths compiled into Debian's programs.

/// Debian's directory to Fedora's; the first that matches wins.
const MOVED: [(&str, &str); 9] = [
    ("/usr/lib/x86_64-linux-gnu", "/usr/lib64"),
    ("/lib/x86_64-linux-gnu", "/usr/lib64"),
    ("/usr/sbin", "/usr/bin"),
    ("/sbin", "/usr/bin"),
    ("/bin", "/usr/bin"),
    ("/lib64", "/usr/lib64"),
    ("/lib", "/usr/lib"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
];

/// The kernel's files in `/boot`, which Fedora's packages keep beside the modules.
const KERNEL_FILES: [&str; 3] = ["vmlinuz", "config", "System.map"];

/// The path in Fedora's layout of an absolute path in Debian's.
pub fn fedora_path(debian: &str) -> String {
    if let Some(kernel_file) = kernel_file(debian) {
        return kernel_file;
    }
    for (from, to) in MOVED {
        if let Some(rest) = debian.strip_prefix(from)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return format!("{to}{rest}");
        }
    }
    debian.to_owned()
}

fn kernel_file(debian: &str) -> Option<String> {
    let name = debian.strip_prefix("/boot/")?;
    KERNEL_FILES.iter().find_map(|file| {
        let version = name.strip_prefix(file)?.strip_prefix('-')?;
        Some(format!("/usr/lib/modules/{version}/{file}"))
    })
}

/// The target in Fedora's layout of the link at Debian's path `link`, relative where it was relative;
/// `None` when the link would then point at itself, because both places became one.
pub fn fedora_link(link: &str, target: &str) -> Option<String> {
    let moved_link = fedora_path(link);
    let absolute = if target.starts_with('/') { normal(target) } else { normal(&format!("{}/{target}", parent(link))) };
    let moved_target = fedora_path(&absolute);
    if moved_target == moved_link {
        return None;
    }
    Some(if target.starts_with('/') { moved_target } else { relative(parent(&moved_link), &moved_target) })
}

/// The directory of an absolute path; empty for one directly below the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// An absolute path without `.`, `..` and doubled slashes.
fn normal(path: &str) -> String {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}

/// How to reach the absolute path `to` from the directory `from`.
fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').filter(|component| !component.is_empty()).collect();
    let to: Vec<&str> = to.split('/').filter(|component| !component.is_empty()).collect();
    let shared = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
    let up = std::iter::repeat_n("..", from.len() - shared);
    let path: Vec<&str> = up.chain(to[shared..].iter().copied()).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_debian_become_those_of_fedora() {
        for (debian, fedora) in [
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib64/libc.so.6"),
            ("/usr/lib/x86_64-linux-gnu", "/usr/lib64"),
            ("/usr/sbin/init", "/usr/bin/init"),
            ("/lib/udev/rules.d/x.rules", "/usr/lib/udev/rules.d/x.rules"),
            ("/lib64/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2"),
            ("/bin/sh", "/usr/bin/sh"),
            ("/library/x", "/library/x"),
            ("/etc/fstab", "/etc/fstab"),
        ] {
            assert_eq!(fedora_path(debian), fedora);
        }
    }

    #[test]
    fn the_kernel_of_boot_lies_beside_its_modules() {
        assert_eq!(fedora_path("/boot/vmlinuz-6.12.1-amd64"), "/usr/lib/modules/6.12.1-amd64/vmlinuz");
        assert_eq!(fedora_path("/boot/System.map-6.12.1-amd64"), "/usr/lib/modules/6.12.1-amd64/System.map");
        assert_eq!(fedora_path("/boot/grub"), "/boot/grub");
    }

    #[test]
    fn a_relative_link_is_computed_anew() {
        let link = |from, to| fedora_link(from, to).unwrap();
        assert_eq!(link("/usr/sbin/init", "../lib/systemd/systemd"), "../lib/systemd/systemd");
        assert_eq!(link("/usr/sbin/vgs", "lvm"), "lvm");
        assert_eq!(link("/usr/lib/systemd/x.so", "../x86_64-linux-gnu/y.so"), "../../lib64/y.so");
        assert_eq!(link("/usr/bin/poweroff", "/bin/systemctl"), "/usr/bin/systemctl");
        assert_eq!(link("/usr/lib/x86_64-linux-gnu/a.so", "a.so.1"), "a.so.1");
        assert_eq!(link("/a", "usr"), "usr");
        assert_eq!(link("/usr/share/x", ".."), "..");
    }

    #[test]
    fn a_link_between_places_that_became_one_is_dropped() {
        assert_eq!(fedora_link("/usr/lib64/ld.so.2", "../lib/x86_64-linux-gnu/ld.so.2"), None);
        assert_eq!(fedora_link("/usr/sbin/awk", "../bin/awk"), None);
    }
}
