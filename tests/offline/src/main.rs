//! Makes a Fedora-shaped, signed rpm repository from Debian's packages, and the images that run dnf on it.
//!
//! The tests install from it where neither a Fedora mirror nor a container registry can be reached. The modules in the
//! order of the pipeline: [`archive`] and [`resolve`] choose and fetch, [`deb`] reads, [`convert`] and [`kernel`] make
//! packages by the rules of [`mapping`], [`rpm`] writes and [`repository`] signs them; [`builder`] makes the images.

#![expect(clippy::disallowed_methods, reason = "what makes the repository for tests is simple")]

mod archive;
mod builder;
mod control;
mod convert;
mod deb;
mod definition;
mod dependencies;
mod digest;
mod fedora;
mod handmade;
mod kernel;
mod layout;
mod license;
mod mapping;
mod oci;
mod package;
mod programs;
mod repository;
mod resolve;
mod rpm;
mod scriptlets;
mod setup;
mod tools;
mod version;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::mapping::Mapping;
use crate::setup::Setup;

/// A Fedora-shaped rpm repository made from Debian's packages, for the tests.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the repository, the keys, the builder images and the definitions; does nothing where they are made.
    Setup {
        /// Where to put them.
        #[arg(long, default_value = "target/offline")]
        dir: PathBuf,
        /// Which builder image to make: dnf5, dnf4 or all.
        #[arg(long, default_value = "dnf5")]
        builder: String,
        /// Makes everything anew from what the archive has today.
        #[arg(long)]
        refresh: bool,
    },
    /// Loads the builder images of a set-up into the current user's podman.
    Load {
        /// Where the set-up lies.
        #[arg(long, default_value = "target/offline")]
        dir: PathBuf,
        /// Which builder image to load: dnf5, dnf4 or all.
        #[arg(long, default_value = "dnf5")]
        builder: String,
    },
}

fn main() -> Result<()> {
    let mappings = Mapping::load_all()?;
    match Arguments::parse().command {
        Command::Setup { dir, builder, refresh } => {
            Setup::new(&dir, &cache_directory()?)?.run(&mappings, &builders(&mappings[0], &builder)?, refresh)
        }
        Command::Load { dir, builder } => {
            programs::require(&["podman"])?;
            for name in builders(&mappings[0], &builder)? {
                println!("{}@{}", builder::image_name(&name), builder::load(&dir, &name)?);
            }
            Ok(())
        }
    }
}

fn builders(mapping: &Mapping, word: &str) -> Result<Vec<String>> {
    let names: Vec<String> = mapping.builders.keys().cloned().collect();
    match word {
        "all" => Ok(names),
        name if names.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        other => bail!("there is no builder {other:?}; there are {} and all", names.join(", ")),
    }
}

/// `OCINITRD_TEST_CACHE`, else a directory of its own below the user's cache.
fn cache_directory() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(cache) = variable("OCINITRD_TEST_CACHE") {
        return Ok(cache);
    }
    let user_cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    Ok(user_cache.context("finding a cache directory: set OCINITRD_TEST_CACHE or HOME")?.join("ocinitrd-tests"))
}
