//! systemd-stub: which version an image has of it, and which sections that one looks for.

use std::io::{Read, Seek};

use anyhow::{Result, ensure};

use super::{MICROCODE, PROFILE, SBAT, UNAME};
use ocinitrd_format::pe::Image;

/// The section in which systemd-stub says what it is.
const MAGIC: &str = ".sdmagic";
/// It takes some 50 bytes for that; anyone's image may have more there.
const MOST_MAGIC_BYTES: u64 = 1 << 10;
/// What its version stands behind there.
const NAME: &str = "LoaderInfo: systemd-stub ";
/// The first that was not made with gnu-efi. Earlier ones have no room for another line of `.sbat`, sections that are not aligned as
/// they say, and do not measure `.uname` and `.sbat`.
const OLDEST: u32 = 254;
/// Since when it looks for sections that it has not always looked for: its NEWS.
const SINCE: [(&str, u32); 7] =
    [(UNAME, 254), (SBAT, 254), (MICROCODE, 256), (PROFILE, 257), (".dtbauto", 257), (".hwids", 257), (".efifw", 258)];
/// The first of which every build copies an old kernel to memory that is large enough.
const COPIES_KERNELS: u32 = 258;

/// What starts an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stub {
    /// The version of systemd-stub; none of another program, or of one that does not say.
    version: Option<u32>,
}

impl Stub {
    /// Reads what an image or a stub alone says of it.
    ///
    /// # Errors
    /// Fails when reading does.
    pub fn of(image: &Image, reader: impl Read + Seek) -> Result<Self> {
        let mut bytes = Vec::new();
        if let Some(section) = image.section(MAGIC) {
            Image::content(section, reader)?.take(MOST_MAGIC_BYTES).read_to_end(&mut bytes)?;
        }
        Ok(Stub { version: version(&String::from_utf8_lossy(&bytes)) })
    }

    /// Refuses one that is too old for what this program makes of it.
    ///
    /// # Errors
    /// Fails with the version that is not.
    pub fn check(self) -> Result<()> {
        let Some(version) = self.version else { return Ok(()) };
        ensure!(
            version >= OLDEST,
            "it is of systemd {version}: take one of systemd {OLDEST} or later, which need not be the version of the system that it starts"
        );
        Ok(())
    }

    /// Refuses a section that it does not look for.
    ///
    /// # Errors
    /// Fails with the version that does.
    pub fn check_section(self, name: &str) -> Result<()> {
        if let (Some(version), Some(since)) = (self.version, since(name)) {
            ensure!(
                version >= since,
                "it is of systemd {version}, which passes over {name}: take one of systemd {since} or later"
            );
        }
        Ok(())
    }

    /// Whether it looks for a section, and measures it if it is one to be measured.
    pub fn looks_for(self, name: &str) -> bool {
        self.check_section(name).is_ok()
    }

    /// Whether it may start an old kernel where it lies.
    pub fn may_start_in_place(self) -> bool {
        self.version.is_none_or(|version| version < COPIES_KERNELS)
    }
}

fn since(name: &str) -> Option<u32> {
    SINCE.iter().find(|(section, _)| *section == name).map(|(_, since)| *since)
}

/// The version in `#### LoaderInfo: systemd-stub 257.13-1 ####`.
fn version(magic: &str) -> Option<u32> {
    let (_, version) = magic.split_once(NAME)?;
    let digits = version.find(|character: char| !character.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use ocinitrd_format::pe::fixture;

    fn of(magic: &str) -> Stub {
        let image = fixture::image(&[(".text", b"code", 4), (MAGIC, magic.as_bytes(), magic.len() as u32)], 0);
        let mut reader = Cursor::new(image);
        Stub::of(&Image::read(&mut reader).unwrap(), reader).unwrap()
    }

    #[test]
    fn its_version_is_what_it_says_and_no_other_program_s() {
        let versions =
            ["257.13-1~deb13u1", "258~rc2", "252", "", "devel"].map(|version| format!("#### {NAME}{version} ####"));
        assert_eq!(versions.map(|magic| of(&magic).version), [Some(257), Some(258), Some(252), None, None]);
        let boot = of("#### LoaderInfo: systemd-boot 257 ####");
        assert!(boot.version.is_none() && boot.check().is_ok() && boot.check_section(PROFILE).is_ok());
    }

    #[test]
    fn what_is_too_old_is_refused_with_the_version_that_is_not() {
        let stub = |version| Stub { version: Some(version) };
        let error = stub(252).check().unwrap_err().to_string();
        assert!(error.starts_with("it is of systemd 252: take one of systemd 254 or later"), "{error}");
        assert!(stub(254).check().is_ok());
        let error = stub(255).check_section(MICROCODE).unwrap_err().to_string();
        assert_eq!(error, "it is of systemd 255, which passes over .ucode: take one of systemd 256 or later");
        assert!(stub(256).looks_for(MICROCODE) && !stub(256).looks_for(PROFILE) && stub(252).looks_for(".cmdline"));
    }
}
