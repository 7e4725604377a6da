//! The disks of a session, made by scripts that run in guests.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{BootTarget, MIB, Session, guest, key};
use crate::boot::command_line;
use crate::boot::guest::Seen;
use crate::boot::partition;
use crate::boot::qemu::{Guest, GuestDisk};
use crate::boot::scenario::{self, DiskSet};
use crate::boot::script;
use crate::boot::stage::Stage;
use crate::boot::tpm::Tpm;
use crate::boot::verdict::{self, Failure};
use ocinitrd_support::output;
use ocinitrd_support::regular_file;

/// How much of a disk is looked at at a time.
const CHUNK_BYTES: u64 = 1 << 16;

/// A script of ours that runs in a guest.
pub struct Script<'a> {
    /// The segment that brings it.
    pub segment: &'a [u8],
    /// The disks that it may write to.
    pub images: &'a [PathBuf],
    /// Its TPM, if it has one.
    pub tpm: Option<&'a Tpm>,
}

/// A disk set that was made, or why it could not be.
pub type Disks = std::result::Result<MadeDisks, Failure>;

/// A disk set that was made.
#[derive(Clone, Debug)]
pub struct MadeDisks {
    set: DiskSet,
    place: PathBuf,
}

impl MadeDisks {
    /// The images, in the order of the set.
    pub fn images(&self) -> Vec<PathBuf> {
        (0..self.set.disks.len()).map(|number| self.place.join(format!("disk{number}"))).collect()
    }

    /// The state of the TPM, if there is one.
    pub fn tpm(&self) -> Option<PathBuf> {
        self.set.tpm.is_there().then(|| self.place.join("tpm"))
    }
}

/// What makes disks need not be the initrd that boots from them.
const REMEDY: &str = "--disks-by OUT makes them with the programs of another build";

impl Session<'_> {
    /// A disk set, which one run makes only once.
    pub(super) fn disks(&self, set: &DiskSet) -> Result<Disks> {
        if set.disks.is_empty() {
            return Ok(Ok(MadeDisks { set: *set, place: PathBuf::new() }));
        }
        let mut known = self.disks.lock().map_err(|_| anyhow::anyhow!("another boot broke off while it made disks"))?;
        if let Some(disks) = known.get(set.name) {
            return Ok(disks.clone());
        }
        let disks = self.make_disks(set)?;
        known.insert(set.name, disks.clone());
        Ok(disks)
    }

    fn make_disks(&self, set: &DiskSet) -> Result<Disks> {
        let pcr_key = self.subject.unified.as_ref().and_then(|unified| unified.pcr_key.as_deref());
        let pcr_key = pcr_key.filter(|_| set.tpm == scenario::Tpm::Version2AndKey);
        let segment = script::disk_maker(set.recipe, pcr_key)?;
        let key = key(&self.maker_identity, &[&segment, format!("{:?}", (set.disks, set.tpm)).as_bytes()]);
        if let Some(place) = self.cache.get(&key) {
            return Ok(Ok(MadeDisks { set: *set, place }));
        }
        let made = self.cache.make(&key, |place| {
            let made = MadeDisks { set: *set, place: place.to_owned() };
            let images = made.images();
            for (disk, image) in set.disks.iter().zip(&images) {
                let file = create_sparse(image, disk.size_mib * MIB)?;
                if !disk.partitions.is_empty() {
                    partition::write_table(&file, disk.guid, disk.partitions)
                        .with_context(|| format!("partitioning {}", image.display()))?;
                }
            }
            let tpm = made.tpm().map(|state| new_tpm(&state)).transpose()?;
            let script = Script { segment: &segment, images: &images, tpm: tpm.as_ref() };
            let maker = self.options.maker.as_ref().unwrap_or(&self.subject);
            let ran = self.run_script(&format!("disks-{}", set.name), maker, place, &script)?;
            Ok(ran.map(drop).map_err(|failure| failure.with_remedy(Stage::Disks, REMEDY)))
        })?;
        Ok(made.map(|place| MadeDisks { set: *set, place }))
    }

    /// Runs a script of ours over the initrd of `subject`; `place` holds what is booted meanwhile.
    pub(super) fn run_script(
        &self,
        name: &str,
        subject: &BootTarget,
        place: &Path,
        script: &Script<'_>,
    ) -> Result<std::result::Result<Seen, Failure>> {
        let initrd = place.join("initrd");
        script::append(&subject.initrd, script.segment, &initrd)?;
        let images = script.images.iter().cloned().enumerate();
        let disks = images.map(|(number, image)| GuestDisk { number, image, writable: true }).collect();
        let subject = BootTarget::of_files(subject.kernel.clone(), initrd.clone());
        let guest = Guest {
            tpm: script.tpm.map(|tpm| tpm.socket().to_owned()),
            ..guest(&subject, command_line::of_script(script::INIT, self.qemu.kernel_options()), disks)?
        };
        let (seen, _) = self.run(&self.qemu, name, &guest)?;
        fs::remove_file(&initrd).with_context(|| format!("removing {}", initrd.display()))?;
        Ok(match verdict::fault(&seen, self.options.timeout) {
            None => Ok(seen),
            Some((Stage::Init, reason)) => Err(Failure::new(Stage::Disks, reason, &seen, self.log(name))),
            Some((stage, reason)) => Err(Failure::new(stage, reason, &seen, self.log(name))),
        })
    }
}

fn new_tpm(state: &Path) -> Result<Tpm> {
    fs::create_dir(state).with_context(|| format!("creating {}", state.display()))?;
    Tpm::start(state)
}

/// A TPM with a copy of what another one left in `made`: each guest finds it as it was when the disks were made.
pub fn start_tpm(made: &Path, scratch: &Path) -> Result<Tpm> {
    let state = scratch.join("tpm");
    fs::create_dir(&state).with_context(|| format!("creating {}", state.display()))?;
    for file in fs::read_dir(made).with_context(|| format!("reading {}", made.display()))? {
        let file = file.with_context(|| format!("reading {}", made.display()))?;
        let mut source = regular_file::open_own(&file.path()).context("copying the state of a TPM")?;
        let mut copy = output::create_new(&state.join(file.file_name())).context("copying the state of a TPM")?;
        io::copy(&mut source, &mut copy).context("copying the state of a TPM")?;
    }
    Tpm::start(&state)
}

pub fn create_sparse(path: &Path, size_bytes: u64) -> Result<File> {
    let file = output::create_new(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(size_bytes).with_context(|| format!("sizing {}", path.display()))?;
    Ok(file)
}

/// Copies a disk without what is zero in it, which is nearly all.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let copying = || format!("copying {} to {}", from.display(), to.display());
    let mut source = regular_file::open(from).with_context(copying)?;
    let target = create_sparse(to, source.metadata().with_context(copying)?.len())?;
    let mut chunk = Vec::new();
    let mut offset = 0;
    loop {
        chunk.clear();
        let count = source.by_ref().take(CHUNK_BYTES).read_to_end(&mut chunk).with_context(copying)?;
        if count == 0 {
            return Ok(());
        }
        if chunk.iter().any(|byte| *byte != 0) {
            target.write_all_at(&chunk, offset).with_context(copying)?;
        }
        offset += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let disk = create_sparse(&from, 8 * MIB + 5).unwrap();
        disk.write_all_at(b"start", 0).unwrap();
        disk.write_all_at(b"end", 8 * MIB + 2).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < MIB);
    }
}
