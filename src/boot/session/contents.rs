//! What the kernel unpacks of a session's initrd.

use std::fs;
use std::io::BufReader;

use anyhow::{Context, Result};

use super::disks::{Script, create_sparse};
use super::{Contents, Session, key};
use crate::analysis::inspect;
use crate::boot::contents;
use crate::boot::script;
use crate::boot::stage::Stage;
use crate::boot::verdict::Failure;
use ocinitrd_support::regular_file;

/// Room for the list of the files in an initrd; the file is sparse.
const LISTING_BYTES: u64 = 256 << 20;

/// What the guest's script lacks, the definition can keep.
const REMEDY: &str = "`programs` in its definition keeps what it names";

impl Session<'_> {
    /// Compares the files that the kernel unpacks with those in the initrd, by digests that a guest computes.
    ///
    /// # Errors
    /// Fails on what has nothing to do with the initrd, and on an initrd that cannot be read.
    pub(super) fn verify_contents(&self) -> Result<Contents> {
        const NAME: &str = "contents";
        let reader = regular_file::open(&self.subject.initrd).context("opening the initrd")?;
        let expected = inspect::file_digests(reader)
            .with_context(|| format!("reading the files of {}", self.subject.initrd.display()))?;
        let segment = script::contents_lister()?;
        let key = key(&self.identity, &[&segment]);
        let files = expected.len();
        if self.cache.get(&key).is_some() {
            return Ok(Contents { files, cached: true, failure: None });
        }
        let made = self.cache.make(&key, |place| {
            let image = place.join("listing");
            create_sparse(&image, LISTING_BYTES)?;
            let script = Script { segment: &segment, images: std::slice::from_ref(&image), tpm: None };
            let seen = match self.run_script(NAME, &self.subject, place, &script)? {
                Ok(seen) => seen,
                // Nothing else may be put beside the files to be listed.
                Err(failure) => return Ok(Err(failure.with_remedy(Stage::Disks, REMEDY))),
            };
            let listing = regular_file::open(&image).context("opening the list of files")?;
            let unpacked = contents::parse_listing(BufReader::new(listing))?;
            fs::remove_file(&image).context("removing the list of files")?;
            let difference = contents::difference(&expected, &unpacked);
            Ok(difference.map_or(Ok(()), |reason| Err(Failure::new(Stage::Unpack, reason, &seen, self.log(NAME)))))
        })?;
        Ok(Contents { files, cached: false, failure: made.err() })
    }
}
