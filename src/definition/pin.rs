//! The builder image in the text of a definition: found, and replaced without touching anything else.
//!
//! Enters: the file that has `[builder] image`. Leaves: the same file with another image between the same quotes; comments,
//! order and every other byte stay.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use toml::Spanned;

use super::raw::LONGEST_FILE_BYTES;
use ocinitrd_support::output::OutputFile;
use ocinitrd_support::regular_file;

/// Where a definition pins its builder image.
#[derive(Debug)]
pub struct Pin {
    file: PathBuf,
    text: String,
    /// The bytes of the value, quotes included.
    span: Range<usize>,
    image: String,
}

/// The part of a definition that is needed here.
#[derive(Deserialize)]
struct WithBuilder {
    builder: WithImage,
}

#[derive(Deserialize)]
struct WithImage {
    image: Spanned<String>,
}

impl Pin {
    /// Finds the builder image in `file`.
    ///
    /// # Errors
    /// Fails when the file cannot be read or has no `[builder] image`.
    pub fn find(file: &Path) -> Result<Self> {
        let text = regular_file::read_text(file, LONGEST_FILE_BYTES);
        let text = text.with_context(|| format!("reading the definition {}", file.display()))?;
        let found = toml::from_str::<WithBuilder>(&text).map(|found| found.builder.image);
        let found = found.with_context(|| format!("looking for [builder] image in {}", file.display()))?;
        let (span, image) = (found.span(), found.into_inner());
        Ok(Pin { file: file.to_owned(), text, span, image })
    }

    /// The file that pins the image.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Refuses a file that was made read-only, even for root, who could replace it.
    ///
    /// # Errors
    /// Fails naming the file.
    pub fn check_writable(&self) -> Result<()> {
        let name = self.file.display();
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        for (path, what) in [(self.file.as_path(), "file"), (directory, "directory")] {
            if regular_file::is_read_only(path).with_context(|| format!("reading the mode of {}", path.display()))? {
                bail!(
                    "{name} has the pin of the builder image, and the {what} {} is read-only\n\
                     hint: make it writable, or edit [builder] image by hand",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// Replaces the image with `image`; the file is rewritten whole or not at all.
    ///
    /// # Errors
    /// Fails when the value is written with escapes, when the file has changed since it was read, and when it cannot be
    /// written.
    pub fn replace(&self, image: &str) -> Result<()> {
        let name = self.file.display();
        let value = &self.text[self.span.clone()];
        ensure!(
            value.matches(&self.image).count() == 1,
            "{name}: [builder] image is written with escapes; write it as \"{image}\" by hand"
        );
        let mut text = self.text.clone();
        text.replace_range(self.span.clone(), &value.replace(&self.image, image));
        let written = toml::from_str::<WithBuilder>(&text).map(|found| found.builder.image.into_inner());
        ensure!(written.is_ok_and(|written| written == image), "{name}: {image} cannot be written as [builder] image");
        let current = regular_file::read_text(&self.file, LONGEST_FILE_BYTES);
        let is_same = current.with_context(|| format!("reading {name} again"))? == self.text;
        ensure!(is_same, "{name} was changed by another program meanwhile and is left as it is; run the command again");
        let mut file = OutputFile::in_place_of(&self.file)?;
        file.write_all(text.as_bytes()).with_context(|| format!("writing {name}"))?;
        file.commit()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const OLD: &str = "quay.io/a/b:44@sha256:11";
    const NEW: &str = "quay.io/a/b:44@sha256:22";

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn nothing_but_the_image_changes_in_any_form() {
        for form in [
            "# quay.io/a/b:44@sha256:11 is the newest\n[builder]\nimage   =  \"OLD\"  # pinned\n\n\n[repos]\n",
            "builder = { image = 'OLD', mirrors = [] }\r\n",
            "builder.image = \"\"\"OLD\"\"\"\n",
            "[ builder ]\n\"image\" = '''OLD'''",
        ] {
            let (_directory, path) = written(&form.replace("OLD", OLD));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let pin = Pin::find(&path).unwrap();
            pin.check_writable().unwrap();
            pin.replace(NEW).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), form.replace("OLD", NEW));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let escaped = format!("[builder]\nimage = \"{}\"\n", OLD.replace('/', "\\u002f"));
        let (_directory, path) = written(&escaped);
        let message = Pin::find(&path).unwrap().replace(NEW).unwrap_err().to_string();
        assert!(message.contains("escapes") && message.contains(NEW), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), escaped);

        let text = format!("[builder]\nimage = \"{OLD}\"\n");
        let (_directory, path) = written(&text);
        let pin = Pin::find(&path).unwrap();
        fs::write(&path, "edited meanwhile").unwrap();
        let message = pin.replace(NEW).unwrap_err().to_string();
        assert!(message.contains("was changed by another program"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited meanwhile");

        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        let message = Pin::find(&path).unwrap().check_writable().unwrap_err().to_string();
        assert!(message.contains("is read-only"), "{message}");
    }
}
