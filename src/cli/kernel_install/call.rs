//! Who calls `ocinitrd kernel-install`: a plugin of kernel-install, a hook of Debian's, or an administrator who moves a machine over.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::hook;
use super::setup;
use ocinitrd_support::progress::Progress;

const USAGE: &str = "\
ocinitrd kernel-install setup [OPTIONS]
       ocinitrd kernel-install hook [OPTIONS] <EVENT> <KVER> [FILE]
       ocinitrd kernel-install [OPTIONS] <PRODUCT> <COMMAND> <KVER> <ENTRY-DIR> [IMAGE] [INITRD]...";

/// Make the initrd, or the unified kernel image, of a kernel that is being installed; `setup` moves a machine over to that
///
/// `setup` moves a machine over from another generator of initrds, and back; `ocinitrd kernel-install setup --help` says how. `hook` is
/// called by the hooks of kernel packages on Debian and Ubuntu, where no kernel-install runs. All
/// else is called by the plugins *-ocinitrd.install of kernel-install(8), which give their arguments. They do nothing unless
/// install.conf(5) has initrd_generator=ocinitrd or uki_generator=ocinitrd. With layout=bls and layout=uki other plugins make a boot entry
/// of the result; with layout=other GRUB's plugin does, and the initrd is written to /boot/initramfs-KVER.img. The base comes from
/// /usr/lib/ocinitrd/bases, /var/lib/ocinitrd/bases or /etc/ocinitrd/bases, the modules from the kernel, the rest from the machine:
/// no container and no network is used, unless a base has to be built and is allowed to be. /etc/ocinitrd/*.toml configures it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, override_usage = USAGE)]
pub struct Call {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    plugin: Option<super::Arguments>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Setup(setup::Arguments),
    Hook(hook::Arguments),
}

/// Runs the command.
///
/// # Errors
/// Fails with what is called.
pub fn run(call: &Call, progress: &Progress) -> Result<ExitCode> {
    match &call.action {
        Some(Action::Setup(arguments)) => setup::run(arguments, progress),
        Some(Action::Hook(arguments)) => hook::run(arguments, progress),
        None => super::run(call.plugin.as_ref().context("nothing is asked for: see --help")?, progress),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        call: Call,
    }

    fn parse(words: &[&str]) -> Result<Call, clap::Error> {
        CommandLine::try_parse_from([&["x"], words].concat()).map(|line| line.call)
    }

    #[test]
    fn plugins_call_as_before_and_setup_is_a_command() {
        for words in [
            "initrd add 6.1 /boot/a/6.1 /vmlinuz",
            "--root /mnt uki add 6.1 entry image /a /b",
            "initrd add 6.1 entry --root /mnt",
        ] {
            let arguments = parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
            assert!(arguments.action.is_none() && arguments.plugin.is_some(), "{words}");
        }
        let arguments = parse(&["setup", "--dry-run"]).unwrap();
        assert!(arguments.action.is_some() && arguments.plugin.is_none());
        let arguments = parse(&["hook", "post-update", "6.1", "/boot/initrd.img-6.1"]).unwrap();
        assert!(matches!(arguments.action, Some(Action::Hook(_))) && arguments.plugin.is_none());
        for words in [
            &[][..],
            &["hook", "prerm", "6.1"],
            &["hook", "postinst"],
            &["initrd", "add"],
            &["--root", "/mnt"],
            &["setup", "add"],
            &["--root", "/", "setup"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
