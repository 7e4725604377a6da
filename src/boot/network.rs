//! The network between two guests: a cable in, a card for each of its ends out.
//!
//! It is a socket in a directory of its own, so nothing is set up on the host and guests run side by side.

use std::path::PathBuf;

use anyhow::{Context, Result};

use ocinitrd_support::output::TemporaryDirectory;

/// What two cards can be connected to, until it is dropped.
#[derive(Debug)]
pub struct Link {
    /// A socket's path has to be short.
    directory: TemporaryDirectory,
}

/// The end of a cable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It has to be there first, and is enough for a network on which nobody answers.
    First,
    /// It is plugged in where the first is there.
    Second,
}

/// A network card of a guest.
#[derive(Clone, Debug)]
pub struct Nic {
    /// The socket that is the cable.
    pub socket: PathBuf,
    /// Which of the two it is.
    pub end: End,
}

impl Link {
    /// A cable with nothing at its ends.
    ///
    /// # Errors
    /// Fails when no directory can be made.
    pub fn new() -> Result<Self> {
        let directory = TemporaryDirectory::create_in_temporary("ocinitrd-net.");
        Ok(Link { directory: directory.context("making a directory for a socket")? })
    }

    /// The card at an end.
    pub fn card(&self, end: End) -> Nic {
        Nic { socket: self.directory.path().join("socket"), end }
    }
}
