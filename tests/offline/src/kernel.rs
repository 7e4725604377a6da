//! Kernels as Fedora divides and lays them out: Debian's packages of a kernel in, `kernel-core` and its like out.
//!
//! Like Fedora's, they hold no `modules.dep`: that is made where they are installed. `kernel-core` requires dracut,
//! which the repository lacks on purpose, so that nothing can install a kernel by dnf in passing.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::convert::{Conversion, part};
use crate::deb::Deb;
use crate::fedora;
use crate::mapping::{Kernel, Rule};
use crate::package::{Content, Dependency, File, Package};
use crate::scriptlets;

/// The packages made from `debs`, which hold the kernel of the uname release `version`.
///
/// # Errors
/// Fails when a field of a deb cannot be read or the kernel is not where Debian puts it.
pub fn packages(conversion: &Conversion<'_>, kernel: &Kernel, version: &str, debs: &[Deb]) -> Result<Vec<Package>> {
    let name = format!("{}-core", kernel.name);
    let mut whole = conversion
        .packages(&name, &Rule::default(), debs)?
        .pop()
        .with_context(|| format!("making {name} of {version}"))?;
    lay_out(&mut whole, version)?;
    if conversion.mapping.is_fedora_shaped {
        add_hmac(&mut whole, version);
    }
    if kernel.zstd_modules {
        compress_with_zstd(&mut whole)?;
    }
    whole.scriptlets = scriptlets::of_kernel(version);
    whole.requires = vec![Dependency::any("dracut"), Dependency::any("systemd-udev")];
    whole.recommends.clear();
    whole.conflicts.clear();
    provide(&mut whole, &["kernel-uname-r", &format!("{name}-uname-r")], version);
    whole.provides.push(Dependency::any("installonlypkg(kernel)"));
    if kernel.split { Ok(divided(conversion, &kernel.name, version, whole)) } else { Ok(vec![whole]) }
}

/// The modes that Fedora has, and nothing but the kernel's directory.
fn lay_out(package: &mut Package, version: &str) -> Result<()> {
    let root = format!("/usr/lib/modules/{version}");
    package.files.retain(|path, _| path.starts_with(&root) || path.starts_with("/usr/share/licenses/"));
    for (name, mode) in [("vmlinuz", 0o755), ("System.map", 0o600), ("config", 0o644)] {
        let path = format!("{root}/{name}");
        package.files.get_mut(&path).with_context(|| format!("finding {path} in the kernel's package"))?.mode = mode;
    }
    Ok(())
}

/// What FIPS mode checks the kernel with.
fn add_hmac(package: &mut Package, version: &str) {
    let root = format!("/usr/lib/modules/{version}");
    let Some(File { content: Content::Regular(bytes), mtime, .. }) = package.files.get(&format!("{root}/vmlinuz"))
    else {
        return;
    };
    let hmac = Content::Regular(Arc::new(fedora::kernel_hmac(version, bytes).into_bytes()));
    let file = File::of_root(hmac, 0o644, *mtime);
    package.files.insert(format!("{root}/.vmlinuz.hmac"), file);
}

/// Replaces the modules' compression, which is xz.
fn compress_with_zstd(package: &mut Package) -> Result<()> {
    const LEVEL: i32 = 3;
    let mut files = BTreeMap::new();
    for (path, mut file) in std::mem::take(&mut package.files) {
        let Some((start, bytes)) = path.strip_suffix(".ko.xz").zip(file.content.bytes()) else {
            files.insert(path, file);
            continue;
        };
        let compress = || zstd::stream::encode_all(liblzma::read::XzDecoder::new(bytes), LEVEL);
        let compressed = compress().with_context(|| format!("compressing {path} with zstd"))?;
        let path = format!("{start}.ko.zst");
        file.content = Content::Regular(Arc::new(compressed));
        files.insert(path, file);
    }
    package.files = files;
    Ok(())
}

fn provide(package: &mut Package, names: &[&str], version: &str) {
    package.provides.extend(names.iter().map(|name| Dependency::equal(*name, version)));
}

fn divided(conversion: &Conversion<'_>, name: &str, version: &str, mut core: Package) -> Vec<Package> {
    let modules_root = format!("/usr/lib/modules/{version}/kernel/");
    let beginnings = &conversion.mapping.kernel_core_modules;
    let mut core_modules = BTreeMap::new();
    let mut modules = BTreeMap::new();
    let mut kept = BTreeMap::new();
    for (path, file) in std::mem::take(&mut core.files) {
        match path.strip_prefix(&modules_root) {
            Some(_) if matches!(file.content, Content::Directory) => {
                core_modules.insert(path.clone(), file.clone());
                modules.insert(path, file);
            }
            Some(module) if beginnings.iter().any(|beginning| module.starts_with(beginning.as_str())) => {
                core_modules.insert(path, file);
            }
            Some(_) => {
                modules.insert(path, file);
            }
            None => {
                kept.insert(path, file);
            }
        }
    }
    core.files = kept;
    core.requires.push(Dependency::equal(format!("{name}-modules-core-uname-r"), version));
    let core_modules = modules_package(&core, &format!("{name}-modules-core"), version, core_modules);
    let mut modules = modules_package(&core, &format!("{name}-modules"), version, modules);
    modules.requires.push(Dependency::equal(format!("{name}-modules-core-uname-r"), version));
    vec![core, core_modules, modules]
}

fn modules_package(core: &Package, name: &str, version: &str, mut files: BTreeMap<String, File>) -> Package {
    drop_empty_directories(&mut files);
    let mut package = part(core, name, files);
    package.requires = vec![Dependency::equal("kernel-uname-r", version)];
    provide(&mut package, &[&format!("{name}-uname-r")], version);
    package.provides.push(Dependency::any("installonlypkg(kernel-module)"));
    package
}

/// Keeps the directories that hold something: a package owns those of its own modules.
fn drop_empty_directories(files: &mut BTreeMap<String, File>) {
    let holders: Vec<String> = files
        .iter()
        .filter(|(_, file)| !matches!(file.content, Content::Directory))
        .map(|(path, _)| path.clone())
        .collect();
    files.retain(|path, file| {
        let inside = format!("{path}/");
        // The holders are sorted: those inside the directory come right after its own name.
        let first = holders.partition_point(|holder| *holder < inside);
        !matches!(file.content, Content::Directory)
            || holders.get(first).is_some_and(|holder| holder.starts_with(&inside))
    });
}
