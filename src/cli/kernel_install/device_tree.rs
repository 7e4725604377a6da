//! The device tree that `/etc/kernel/devicetree` names, as kernel-install's own plugins find it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::Installation;
use crate::cli::text_arg;
use ocinitrd_support::links;

impl Installation<'_> {
    /// The compiled device tree, if one is configured.
    ///
    /// # Errors
    /// Fails when the file that is to name it is empty, and when what it names is not there.
    pub fn device_tree(&self) -> Result<Option<PathBuf>> {
        let Some(configured) = self.configured("devicetree") else { return Ok(None) };
        let text = text_arg::read(&configured)?;
        let name = text.trim().trim_start_matches('/');
        ensure!(!name.is_empty(), "{} names no device tree: write into it which, or remove it", configured.display());
        let (root, kernel) = (&self.root, &self.arguments.kernel_version);
        let of_kernel = [
            format!("usr/lib/firmware/{kernel}/device-tree"),
            format!("usr/lib/linux-image-{kernel}"),
            format!("usr/lib/modules/{kernel}/dtb"),
        ];
        let own = self.environment.configuration_root.iter().cloned();
        let places: Vec<PathBuf> = own.chain(of_kernel.map(|place| root.join(place))).collect();
        let found = places.iter().map(|place| self.followed(&place.join(name))).find(|path| path.is_file());
        let Some(found) = found else {
            let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            bail!("the device tree {name}, which {} names, is in none of {}", configured.display(), places.join(", "));
        };
        Ok(Some(found))
    }

    /// The file of that name in kernel-install's configuration, if it is there.
    pub fn configured(&self, name: &str) -> Option<PathBuf> {
        let mut places = self.configuration_places().into_iter().map(|place| self.followed(&place.join(name)));
        places.find(|path| path.exists())
    }

    /// The path without symlinks, which begin at the root of the machine if it is below that.
    pub fn followed(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix(&self.root).ok();
        inside.and_then(|inside| links::place(&self.root, inside).ok()).unwrap_or_else(|| path.to_owned())
    }

    /// Where kernel-install's configuration is, the first that has a file first.
    pub fn configuration_places(&self) -> Vec<PathBuf> {
        let root = &self.root;
        match &self.environment.configuration_root {
            Some(directory) => vec![directory.clone()],
            None => ["etc/kernel", "usr/lib/kernel"].map(|place| root.join(place)).to_vec(),
        }
    }
}
