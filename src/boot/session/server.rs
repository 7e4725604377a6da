//! The server of a scenario: a guest that has the disks of the scenario, and runs beside the one that is tried.

use std::path::Path;

use anyhow::Result;

use super::disks::MadeDisks;
use super::{BootTarget, RETRIES, Session, guest};
use crate::boot::command_line;
use crate::boot::guest as running;
use crate::boot::network::{End, Link, Nic};
use crate::boot::qemu::{Guest, GuestDisk};
use crate::boot::scenario::{Network, Scenario};
use crate::boot::script;
use crate::boot::stage::Stage;
use crate::boot::verdict::{self, Failure};

/// What the card of a guest is connected to, for as long as the guest runs.
pub struct ServerLink {
    /// Ended first: it is connected to the cable.
    _server: Option<running::Server>,
    cable: Link,
    /// The end that is left for the guest.
    end: End,
}

impl ServerLink {
    /// The guest's card.
    pub fn card(&self) -> Nic {
        self.cable.card(self.end)
    }
}

impl Session<'_> {
    /// The network of a scenario, with its server serving; nothing where it has none. Or why that does not come about.
    ///
    /// # Errors
    /// Fails on what has nothing to do with an initrd: a full disk, an interruption.
    pub(super) fn link(
        &self,
        scenario: &Scenario,
        made: &MadeDisks,
        scratch: &Path,
    ) -> Result<std::result::Result<Option<ServerLink>, Failure>> {
        let script = match scenario.network {
            Network::None => return Ok(Ok(None)),
            Network::Silent => {
                return Ok(Ok(Some(ServerLink { _server: None, cable: Link::new()?, end: End::First })));
            }
            Network::Served(script) => script,
        };
        let cable = Link::new()?;
        let name = format!("{}-server", scenario.name);
        let guest = Guest { card: Some(cable.card(End::First)), ..self.server_guest(script, made, scratch)? };
        let (served, _) = self.try_again(&name, |watch| running::serve(&self.qemu, &guest, watch))?;
        Ok(match served {
            Ok(server) => Ok(Some(ServerLink { _server: Some(server), cable, end: End::Second })),
            Err(seen) => {
                let fault = verdict::fault(&seen, self.options.timeout);
                let (stage, reason) = fault.unwrap_or((Stage::Disks, "the guest ended before it served".to_owned()));
                Err(self.server_failure(stage, reason, &seen, &name))
            }
        })
    }

    /// The guest of a server, without its card: the disks are the scenario's, and stay as they are.
    fn server_guest(&self, script: &str, made: &MadeDisks, scratch: &Path) -> Result<Guest> {
        let maker = self.options.maker.as_ref().unwrap_or(&self.subject);
        let initrd = scratch.join("server-initrd");
        // As long as all tries of the guest that it serves may take.
        let lifetime = self.options.timeout * (RETRIES + 1);
        script::append(&maker.initrd, &script::server(script, lifetime)?, &initrd)?;
        let images = made.images().into_iter().enumerate();
        let disks = images.map(|(number, image)| GuestDisk { number, image, writable: false }).collect();
        let subject = BootTarget::of_files(maker.kernel.clone(), initrd);
        guest(&subject, command_line::of_script(script::INIT, self.qemu.kernel_options()), disks)
    }

    fn server_failure(&self, stage: Stage, reason: String, seen: &running::Seen, name: &str) -> Failure {
        match stage {
            // Its script has the words of one that makes disks.
            Stage::Init | Stage::Disks => {
                let reason = format!("{reason}; --disks-by OUT serves with the programs of another build");
                Failure::new(Stage::Server, reason, seen, self.log(name))
            }
            stage => Failure::new(stage, reason, seen, self.log(name)),
        }
    }
}
