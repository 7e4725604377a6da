//! Locked packages to rpms in the store whose signatures were verified.

use anyhow::{Context, Result};

use crate::lock::context::BuildContext;
use crate::lock::file::{LockedPackage, Section};
use crate::lock::resolve;
use crate::lock::signatures;
use crate::packages::fetch::{self, Wanted};
use crate::packages::identity;
use crate::packages::repository::Package;
use ocinitrd_format::openpgp::Fingerprint;

/// Fetches `packages` of `section` as far as the store lacks them, verifies what was not verified before, and makes sure that each
/// is what the lock says, by its signed header. An engine
/// is needed only for the latter.
///
/// # Errors
/// Fails when a package cannot be had, is another, or does not verify.
pub async fn provide(context: &BuildContext<'_>, section: &Section, packages: &[LockedPackage]) -> Result<()> {
    let BuildContext { definition, store, downloader, progress, .. } = context;
    let places = resolve::places(definition, &section.repos, &context.supply.rpm_directories);
    let wanted = |locked: &LockedPackage| {
        let package = locked.package();
        let key = signatures::locked_key(&section.keys, &locked.key)
            .with_context(|| format!("looking for the key of {}", locked.nevra()))?;
        Ok(Wanted { locations: places.of(&package, Some(&key))?, package })
    };
    let wanted = packages.iter().map(wanted).collect::<Result<Vec<_>>>()?;
    context.cancellation.unless(fetch::fetch(&wanted, &definition.argument, store, downloader, progress)).await?;
    let signed: Vec<(&Package, &Fingerprint)> =
        wanted.iter().zip(packages).map(|(wanted, locked)| (&wanted.package, &locked.key)).collect();
    let unverified = signatures::unverified(&section.keys, &signed, store)?;
    if !unverified.is_empty() {
        let builder = context.builder().await?;
        signatures::verify(builder, &section.keys, &unverified, store, progress).await?;
    }
    identity::check_locked(&wanted.iter().map(|wanted| &wanted.package).collect::<Vec<_>>(), store)
}
