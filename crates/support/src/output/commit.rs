//! How finished outputs take their places: all of them, or none where one cannot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use rustix::fs::{CWD, RenameFlags};

use super::temporary_registry::{TemporaryName, begin_commit, remove};
use super::{Replaces, check_directory_replaceable, check_replaceable, directory_of};

/// An output that is complete, under a temporary name beside its target.
pub(super) struct Finished {
    pub(super) target: PathBuf,
    pub(super) temporary: Temporary,
}

pub(super) enum Temporary {
    File(TemporaryName),
    Directory(TemporaryName, Replaces),
}

/// Moves all outputs to their targets, in their order; returns the targets.
///
/// # Errors
/// Fails when one cannot be moved: what was there before is back then. Fails after all have appeared when former content cannot
/// be removed.
pub(super) fn commit(finished: Vec<Finished>) -> Result<Vec<PathBuf>> {
    let _together = begin_commit();
    let mut placed = Vec::new();
    if let Err(error) = place_all(finished, &mut placed) {
        return Err(placed.into_iter().rev().fold(error, |error, placed: Placed| placed.undo(error)));
    }
    let mut targets = Vec::new();
    for Placed { target, before } in placed {
        if let Before::Kept(name) = before {
            let leftover = name.path().to_owned();
            name.close().with_context(|| format!("removing the former content, now in {}", leftover.display()))?;
        }
        targets.push(target);
    }
    Ok(targets)
}

fn place_all(finished: Vec<Finished>, placed: &mut Vec<Placed>) -> Result<()> {
    let is_alone = finished.len() == 1;
    let mut directories = Vec::new();
    for output in finished {
        let target = output.target.clone();
        placed.push(output.place(is_alone).with_context(|| format!("replacing {}", target.display()))?);
        directories.push(directory_of(&target).to_owned());
    }
    directories.dedup();
    for directory in directories {
        // The rename itself reaches the disk with the directory.
        let synced = File::open(&directory).and_then(|opened| opened.sync_all());
        synced.with_context(|| format!("writing the directory {}", directory.display()))?;
    }
    Ok(())
}

impl Finished {
    /// Takes the target's place. A file that is the only output replaces what was there; else that is kept, since a later
    /// output may fail.
    fn place(self, is_alone: bool) -> Result<Placed> {
        let Finished { target, temporary } = self;
        let (name, replaces_at_once) = match temporary {
            Temporary::File(name) => {
                check_replaceable(&target)?;
                (name, is_alone)
            }
            Temporary::Directory(name, replaces) => {
                // Once more: a build is long, and somebody may have put files there since.
                check_directory_replaceable(&target, replaces)?;
                (name, false)
            }
        };
        let is_there = fs::symlink_metadata(&target).is_ok();
        if is_there && !replaces_at_once {
            exchange(name.path(), &target)?;
            return Ok(Placed { target, before: Before::Kept(name) });
        }
        fs::rename(name.path(), &target)?;
        name.renamed();
        Ok(Placed { target, before: if is_there { Before::Replaced } else { Before::Nothing } })
    }
}

/// An output in its place.
struct Placed {
    target: PathBuf,
    before: Before,
}

/// What was in the place of an output before.
enum Before {
    Nothing,
    /// It has this name now.
    Kept(TemporaryName),
    /// It is gone.
    Replaced,
}

impl Placed {
    /// Puts back what was there before, because of `error`; returns that, with what could not be put back.
    fn undo(self, error: Error) -> Error {
        let Placed { target, before } = self;
        match before {
            Before::Replaced => error,
            Before::Nothing => match remove(&target) {
                Err(_) if fs::symlink_metadata(&target).is_ok() => {
                    error.context(format!("{} could not be removed again", target.display()))
                }
                _ => error,
            },
            // The new output has the name now, and goes with it.
            Before::Kept(name) if exchange(name.path(), &target).is_ok() => error,
            Before::Kept(name) => {
                let kept = name.path().display().to_string();
                name.renamed();
                error.context(format!("the former {} could not be put back, it is {kept} now", target.display()))
            }
        }
    }
}

/// Puts the new output in the old one's place, and the old one in the new one's.
fn exchange(new: &Path, target: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            // A file system without exchange: for a moment there is no target.
            let aside = new.with_extension("old");
            fs::rename(target, &aside)?;
            if let Err(error) = fs::rename(new, target) {
                fs::rename(&aside, target)?;
                return Err(error.into());
            }
            Ok(fs::rename(&aside, new)?)
        }
        exchanged => Ok(exchanged?),
    }
}
