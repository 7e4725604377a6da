//! `ocinitrd update --builder`: the pin of the builder image, renewed to the digest that its tag has now.

use std::fmt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::cli::environment;
use crate::container::steps::versions::versions;
use crate::definition::{Definition, Pin};
use crate::lock::context::BuildContext;
use crate::lock::ensure;
use ocinitrd_format::architecture;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::one_line;
use ocinitrd_support::progress::Progress;

use super::{Arguments, print};

/// How the new builder image differs from the one that was pinned.
#[derive(Debug, Serialize)]
struct Difference {
    /// `registry/name:tag`.
    image: String,
    /// The file that pins it.
    file: String,
    before: Version,
    after: Version,
}

/// A version of the builder image.
#[derive(Clone, Debug, Serialize)]
struct Version {
    /// None if the definition did not pin it.
    digest: Option<Digest>,
    /// The versions of its rpm and dnf; none if the image is gone and no lock has them.
    tools: Option<Vec<String>>,
}

/// Renews the pin and prints what changed.
///
/// # Errors
/// Fails when the tag cannot be resolved, when the new image cannot be had or does not run, and when the definition cannot be
/// written.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    ensure!(!arguments.supply.offline, "--builder asks a registry, which --offline forbids");
    let context = arguments.supply.open_workshop(&arguments.image, progress)?;
    let pin = Pin::find(&context.definition.builder_file)?;
    match check_editable(&pin) {
        Err(error) if arguments.dry_run => progress.warn(&format!("without --dry-run this would fail: {error:#}")),
        checked => checked?,
    }
    let Some(newest) = context.newest_builder().await? else {
        progress.note(&format!("{}: the builder image is the newest, it stays as it is", pin.file().display()));
        if arguments.json {
            print(&unchanged(&context, &pin).await?, true)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let image = context.tagged_builder()?;
    let renewed = Definition { builder_image: newest.to_string(), ..context.definition.clone() };
    let after = try_out(BuildContext::open(renewed, arguments.supply.supply()?, progress)?, newest.digest()).await?;
    let difference = Difference {
        image: image.to_string(),
        file: pin.file().display().to_string(),
        before: Version { digest: image.digest(), tools: tools_before(&context).await? },
        after,
    };
    if arguments.dry_run {
        progress.note(&format!("{}: would be written", difference.file));
    } else {
        pin.replace(&newest.to_string())?;
        progress.note(&format!("{}: written", difference.file));
        tell_of_the_lock(&context);
    }
    print(&difference, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// The difference of an image that is still the newest, so that JSON has the same members in either case.
async fn unchanged(context: &BuildContext<'_>, pin: &Pin) -> Result<Difference> {
    let image = context.tagged_builder()?;
    let version = Version { digest: image.digest(), tools: tools_before(context).await? };
    let file = pin.file().display().to_string();
    Ok(Difference { image: image.to_string(), file, before: version.clone(), after: version })
}

/// Refuses files that are not the user's to edit.
fn check_editable(pin: &Pin) -> Result<()> {
    let shipped = environment::shipped_images().and_then(|images| images.canonicalize().ok());
    if shipped.is_some_and(|shipped| pin.file().starts_with(shipped)) {
        bail!(
            "{} came with ocinitrd, and its next version would overwrite it\n\
             hint: include it in a definition of your own that names its builder in [builder] image, and update that one",
            pin.file().display()
        );
    }
    pin.check_writable()
}

/// Brings the new image into the store and into the engine, and runs it.
async fn try_out(context: BuildContext<'_>, digest: Digest) -> Result<Version> {
    context.keep_builder_image().await?;
    let tools = versions(context.builder().await?, context.progress).await.context("trying the new builder image")?;
    Ok(Version { digest: Some(digest), tools: Some(tools) })
}

/// What the lock has of the pinned image, else what the image itself prints, if it can be had.
async fn tools_before(context: &BuildContext<'_>) -> Result<Option<Vec<String>>> {
    let lock = ensure::load(context)?;
    let locked = lock.arch.get(architecture::native()).map(|section| &section.builder);
    if let Some(builder) = locked.filter(|builder| builder.image == context.definition.builder_image) {
        return Ok(Some(builder.tools.clone()));
    }
    let Ok(builder) = context.builder().await else { return Ok(None) };
    versions(builder, context.progress).await.map(Some)
}

fn tell_of_the_lock(context: &BuildContext<'_>) {
    if context.definition.lock_path().exists() {
        let (lock, image) = (context.lock_name(), &context.definition.argument);
        context.progress.note(&format!("{lock} names the earlier builder image: ocinitrd lock {image} renews it"));
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = |version: &Version| version.digest.map_or("not pinned".to_owned(), |digest| digest.to_string());
        let tools = |version: &Version| match &version.tools {
            Some(tools) => one_line(&tools.join(", ")).to_string(),
            None if version.digest.is_none() => "not pinned".to_owned(),
            None => "unknown, since it cannot be had any more".to_owned(),
        };
        writeln!(formatter, "builder image {}", self.image)?;
        writeln!(formatter, "  digest: {}", digest(&self.before))?;
        writeln!(formatter, "       -> {}", digest(&self.after))?;
        if self.before.tools == self.after.tools {
            return write!(formatter, "  tools:  {} as before", tools(&self.after));
        }
        writeln!(formatter, "  tools:  {}", tools(&self.before))?;
        write!(formatter, "       -> {}", tools(&self.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_names_digests_and_tools() {
        let version = |byte: &str, tools: Option<&str>| Version {
            digest: format!("sha256:{}", byte.repeat(32)).parse().ok(),
            tools: tools.map(|tools| vec![tools.to_owned(), "dnf5 5.2".to_owned()]),
        };
        let between = |before, after| {
            let (image, file) = ("quay.io/a:1".to_owned(), "a.toml".to_owned());
            Difference { image, file, before, after }.to_string()
        };
        let text = between(version("00", Some("rpm 4")), version("11", Some("rpm 6")));
        let (old, new) = ("00".repeat(32), "11".repeat(32));
        let expected = format!(
            "builder image quay.io/a:1\n  digest: sha256:{old}\n       -> sha256:{new}\n  \
             tools:  rpm 4, dnf5 5.2\n       -> rpm 6, dnf5 5.2"
        );
        assert_eq!(text, expected);
        let same = between(version("00", Some("rpm 6")), version("11", Some("rpm 6")));
        assert!(same.ends_with("tools:  rpm 6, dnf5 5.2 as before"), "{same}");
        assert!(between(version("00", None), version("11", Some("rpm 6"))).contains("unknown"));
    }
}
