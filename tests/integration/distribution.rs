//! Programs of other distributions, in containers of the images of `tests/distributions`.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::fixture::{checkout, container, succeed};

/// A distribution of which there is an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Distribution {
    /// Debian 13, with systemd 257.
    Trixie,
    /// The newest that Debian's archive has.
    Sid,
}

impl Distribution {
    /// A container of it without a network, in which nothing is kept but what these pairs mount there: the place here, and the place
    /// there with podman's options of it.
    pub fn container(self, mounts: &[(&Path, &str)]) -> Container {
        Container::of(self.image(), mounts)
    }

    /// The name of the image, which is made if it is not there.
    fn image(self) -> &'static str {
        static TRIXIE: OnceLock<String> = OnceLock::new();
        static SID: OnceLock<String> = OnceLock::new();
        let (image, recipe) = match self {
            Distribution::Trixie => (&TRIXIE, "host-trixie"),
            Distribution::Sid => (&SID, "host-sid"),
        };
        image.get_or_init(|| image_of(recipe))
    }
}

/// The name of the image of a recipe, which is made if it is not there.
fn image_of(recipe: &str) -> String {
    let script = checkout().join("tests/distributions/image.sh");
    succeed(Command::new(script).arg(recipe)).trim().to_owned()
}

/// As [`Distribution::container`], of the stubs of old systemds: `/stubs/252` and `/stubs/254` for x86-64.
pub fn old_stubs_container(mounts: &[(&Path, &str)]) -> Container {
    Container::of(&image_of("stubs-bookworm"), mounts)
}

/// As [`Distribution::container`], of rpm 6 and what signs packages with it.
pub fn signing_container(mounts: &[(&Path, &str)]) -> Container {
    Container::of(&image_of("rpm-sid"), mounts)
}

/// As [`Distribution::container`], of the newest GRUB that Debian's archive has.
pub fn grub_container(mounts: &[(&Path, &str)]) -> Container {
    Container::of(&image_of("grub-sid"), mounts)
}

/// A container that is to be run.
pub struct Container {
    command: Command,
    image: String,
}

impl Container {
    fn of(image: &str, mounts: &[(&Path, &str)]) -> Self {
        let mut command = container();
        for (here, there) in mounts {
            command.arg("-v").arg(format!("{}:{there}", here.display()));
        }
        Container { command, image: image.to_owned() }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.arg("-e").arg(format!("{name}={value}"));
        self
    }

    /// What runs in it.
    pub fn run(mut self, words: &[&str]) -> Command {
        self.command.arg(self.image).args(words);
        self.command
    }
}
