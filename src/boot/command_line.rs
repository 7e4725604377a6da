//! The kernel command line of a guest.

/// Options of every guest. The kernel's own messages are shown: they carry the time and cost a guest no time that could be
/// measured. Auditing, security modules and mitigations cost a guest without KVM a third of its time. On a busy host the
/// kernel would now and then find such a guest's timer too slow to be one, and panic.
const ALWAYS: &str = "console=ttyS0 panic=-1 loglevel=7 printk.time=1 printk.devkmsg=on no_timer_check audit=0 \
    lsm=capability mitigations=off";

/// Options of a guest whose init is systemd: one status line for each unit, with its name, whole, and without control sequences.
/// Devices may take a minute in a guest without KVM on a busy host. What programs call an error is shown too.
const SYSTEMD: &str = "systemd.show_status=1 systemd.status_unit_format=combined systemd.log_color=0 TERM=dumb \
    systemd.tty.columns.console=240 systemd.tty.rows.console=50 systemd.default_device_timeout_sec=120 \
    systemd.journald.forward_to_kmsg=1 systemd.journald.max_level_kmsg=err";

/// What tells the target to hibernate. The kernel is not to compress the image: without KVM that takes minutes.
pub const HIBERNATE: &str = "ocinitrd.hibernate hibernate=nocompress";

/// The command line of a guest that boots the initrd under test: later options override earlier ones. `processor` are those
/// that its processor asks for.
pub fn of_target(scenario: &str, processor: &str, append: &[String]) -> String {
    let mut words = vec![ALWAYS, SYSTEMD, scenario];
    words.extend(Some(processor).filter(|options| !options.is_empty()));
    words.extend(append.iter().map(String::as_str));
    words.join(" ")
}

/// The command line of a guest that runs the script `init` in place of the initrd's init.
pub fn of_script(init: &str, processor: &str) -> String {
    // Without a limit on its size, which a tmpfs of half the memory has.
    let line = format!("{ALWAYS} rootfstype=ramfs rdinit={init}");
    if processor.is_empty() { line } else { format!("{line} {processor}") }
}

/// The command line of a guest without an initrd, which ends in a panic.
pub fn of_kernel_alone() -> String {
    ALWAYS.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_comes_last() {
        let line = of_target("root=LABEL=x rw", "", &["root=LABEL=y".to_owned(), "quiet".to_owned()]);
        assert!(line.starts_with("console=ttyS0 panic=-1 "), "{line}");
        assert!(line.ends_with(" systemd.journald.max_level_kmsg=err root=LABEL=x rw root=LABEL=y quiet"), "{line}");
        assert!(!line.contains("  ") && line.len() < 1024, "{line}");
        assert!(of_target("rw", "clearcpuid=141", &["quiet".to_owned()]).ends_with(" rw clearcpuid=141 quiet"));
    }

    #[test]
    fn a_script_takes_the_place_of_init() {
        assert!(of_script("/ocinitrd/run", "").ends_with(" rdinit=/ocinitrd/run"));
        assert!(of_script("/run", "clearcpuid=141").ends_with(" rdinit=/run clearcpuid=141"));
        assert!(!of_kernel_alone().contains("init="));
    }
}
