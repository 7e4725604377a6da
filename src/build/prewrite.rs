//! What can be written of a kernel's outputs before its modules are known: its image, and the start of its initrd.
//!
//! It is written, and brought to the disk, on threads of its own, while the modules are selected.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use anyhow::{Context, Result};

use crate::image::manifest::{Output, OutputPath};
use crate::image::segment::Assembler;
use crate::image::tree::Content;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::output::{MODE_PRIVATE, MODE_PUBLIC, OutputFile};

use super::Build;
use super::base::FinishedBase;
use super::kernels::ReadKernel;
use super::outputs::{WrittenFile, copy, place};
use super::part::Part;
use super::plan::{Format, Plan, suffixed};

/// A kernel's image and the start of its initrd, under way.
pub struct Early<'scope> {
    image: ScopedJoinHandle<'scope, Result<(WrittenFile, Content)>>,
    initrd: Option<ScopedJoinHandle<'scope, Result<Beginning>>>,
}

impl<'scope> Early<'scope> {
    /// Begins to write.
    ///
    /// # Errors
    /// Fails when no thread can be started.
    pub fn begin(
        scope: &'scope Scope<'scope, '_>,
        build: &Build<'scope>,
        base: &FinishedBase,
        kernel: &ReadKernel,
    ) -> Result<Self> {
        let plan = build.plan;
        let suffix = build.recipe.suffix(kernel.version());
        let (name, source) = (suffixed("vmlinuz", suffix), kernel.image().clone());
        let cache = build.context.results.clone();
        let image = spawn(scope, move || {
            let image = source.keep(&cache)?;
            let written = copy(plan, &name, &image.content, &image.sha256, MODE_PUBLIC)?;
            written.file.sync()?;
            Ok((written, image.content))
        })?;
        let begin_initrd = || {
            let name = plan.output_name(Format::Cpio, suffix);
            let parts = [&kernel.microcode, &base.segment].into_iter().flatten();
            let parts = parts.map(|part| (part.name, part.facts.sha256, part.content.clone())).collect();
            spawn(scope, move || Beginning::write(plan, name, parts))
        };
        let initrd = plan.formats.contains(&Format::Cpio).then(begin_initrd).transpose()?;
        Ok(Early { image, initrd })
    }

    /// Waits for the image, which comes with its bytes, and for the start of the initrd if there is to be one.
    ///
    /// # Errors
    /// Fails when one of them could not be written.
    pub fn join(self) -> Result<((WrittenFile, Content), Option<Beginning>)> {
        let initrd = self.initrd.map(joined).transpose()?;
        Ok((joined(self.image)?, initrd))
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
    Builder::new().name("outputs".to_owned()).spawn_scoped(scope, work).context("starting a thread")
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// An initrd that lacks the modules.
pub struct Beginning {
    name: String,
    assembler: Assembler<OutputFile>,
}

impl Beginning {
    fn write(plan: &Plan, name: String, parts: Vec<(&'static str, Digest, Content)>) -> Result<Self> {
        let mut assembler = Assembler::new(OutputFile::create(&place(plan, &name), MODE_PRIVATE)?);
        for (part, sha256, content) in parts {
            assembler.add_finished(part, sha256, content.reader())?;
        }
        assembler.output().sync()?;
        Ok(Beginning { name, assembler })
    }

    /// Ends it with the modules.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn finish(mut self, modules: Option<&Part>) -> Result<WrittenFile> {
        if let Some(part) = modules {
            self.assembler.add_finished(part.name, part.facts.sha256, part.content.reader())?;
        }
        let (file, initrd) = self.assembler.finish();
        let output = Output { path: OutputPath::new(self.name)?, size_bytes: initrd.size_bytes, sha256: initrd.digest };
        Ok(WrittenFile { file, output })
    }
}
