//! A manifest to a build of the same image anew, and in what the two differ.
//!
//! The build has nothing from earlier ones but the packages in the store; its outputs and results are removed.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::analysis::compare::{self, Comparison, Difference, Recorded, Subject};
use crate::analysis::inspect::Limits;
use crate::build::{self, Plan, Request};
use crate::definition::Definition;
use crate::image::manifest::Manifest;
use crate::lock::context::{BuildContext, Sources};
use crate::lock::ensure::LockMode;
use ocinitrd_format::architecture;
use ocinitrd_support::output::TemporaryDirectory;
use ocinitrd_support::progress::Progress;

/// What of a manifest tells only which program wrote it and that something was another input: of that
/// [`Rebuild::other_inputs`] says more.
const PROVENANCE: [&str; 3] = ["inputs", "ocinitrd_source", "ocinitrd_version"];

/// What came of building anew.
#[derive(Debug, Serialize)]
pub struct Rebuild {
    /// In which kinds of inputs the builds differ, a text each; empty if they had the same.
    pub other_inputs: Vec<String>,
    /// In what the outputs differ, and what else the manifests record; A is what was recorded.
    #[serde(flatten)]
    pub comparison: Comparison,
}

impl Rebuild {
    /// Whether it is the same to the bit. Another version of the program may well make the same.
    pub fn is_equal(&self) -> bool {
        self.comparison.differences.is_empty() && self.comparison.not_compared.is_empty()
    }
}

/// The image to build for a manifest: the one that is `given`, or the one that it names.
///
/// # Errors
/// Fails when this host builds for another architecture, and when the manifest names none of our images.
pub fn image<'a>(manifest: &'a Manifest, given: Option<&'a str>) -> Result<&'a str> {
    ensure!(
        manifest.architecture == architecture::native(),
        "the outputs are for {0}, this host builds for {1}: build them anew on a host of {0}",
        manifest.architecture,
        architecture::native()
    );
    // A manifest is somebody else's word: it may name an image of ours, and no file.
    ensure!(
        given.is_some() || !(manifest.image.contains('/') || manifest.image.ends_with(".toml")),
        "the manifest has the image {:?}, which is no name of one: give --image",
        manifest.image
    );
    Ok(given.unwrap_or(&manifest.image))
}

/// Builds what `definition` describes as the manifest records it, from its lock, and compares the outputs.
///
/// # Errors
/// Fails when the definition or its lock does not serve, a package is not in the store, or the build fails.
pub async fn rebuild(
    recorded: &Recorded,
    definition: Definition,
    supply: Sources,
    progress: &Progress,
) -> Result<Rebuild> {
    let manifest = &recorded.manifest;
    let context = BuildContext::open(definition, supply, progress)?;
    // In the store, whose `gc` removes what a killed process leaves.
    let temporary = TemporaryDirectory::create(context.store.root(), ".tmp-rebuild-")?;
    let outputs = temporary.path().join("outputs");
    let plan = Plan::new(Request::recorded(manifest, outputs.clone())?, &context.definition)?;
    let context = context.with_results_in(&temporary.path().join("results"));
    build::build(&plan, context, LockMode::Forbidden).await?;

    let rebuilt = Recorded::open(&outputs)?.manifest_only();
    let comparison = compare::outputs(recorded, &rebuilt, &Limits::default())
        .context("comparing the outputs with those built anew")?;
    temporary.close()?;
    Ok(judge(manifest, &rebuilt.manifest, comparison))
}

fn judge(recorded: &Manifest, rebuilt: &Manifest, mut comparison: Comparison) -> Rebuild {
    let tells_nothing = |difference: &Difference| {
        difference.subject == Subject::Manifest && PROVENANCE.contains(&difference.field.as_str())
    };
    comparison.differences.retain(|difference| !tells_nothing(difference));
    comparison.count = comparison.differences.len();
    Rebuild { other_inputs: other_inputs(recorded, rebuilt, &comparison.differences), comparison }
}

/// Why the digests of all inputs are not the same.
fn other_inputs(recorded: &Manifest, rebuilt: &Manifest, differences: &[Difference]) -> Vec<String> {
    if recorded.inputs == rebuilt.inputs {
        return Vec::new();
    }
    let mut others = Vec::new();
    if recorded.ocinitrd_source != rebuilt.ocinitrd_source {
        let (theirs, own) = (&recorded.ocinitrd_version, &rebuilt.ocinitrd_version);
        let versions = if theirs == own { String::new() } else { format!(" ({theirs}; this is {own})") };
        others.push(format!("another version of ocinitrd{versions}"));
    }
    if differences.iter().any(is_locked) {
        others.push("another lock".to_owned());
    }
    let is_defined = |difference: &Difference| {
        difference.subject == Subject::Manifest
            && (difference.field == "image" || difference.field.starts_with("options."))
    };
    if differences.iter().any(is_defined) {
        others.push("another definition".to_owned());
    }
    if others.is_empty() {
        others.push("something in the definition or the lock that the manifest does not record".to_owned());
    }
    others
}

/// Whether a lock decides on it.
fn is_locked(difference: &Difference) -> bool {
    match difference.subject {
        Subject::Package { .. } | Subject::KernelPackage { .. } | Subject::Kernel => true,
        Subject::Manifest => ["builder.", "repositories."].iter().any(|outer| difference.field.starts_with(outer)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use ocinitrd_format::digest::Digest;

    fn manifest(change: impl FnOnce(&mut Value)) -> Manifest {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let mut json = json!({
            "schema": 1, "ocinitrd_version": "1.0", "ocinitrd_source": digest("source"), "image": "small",
            "architecture": "x86_64", "locked": true, "inputs": digest("inputs"), "epoch": 5,
            "builder": {"image": "builder", "digest": digest("a"), "platform_digest": digest("b"), "tools": []},
            "options": {"profiles": [], "formats": ["cpio"], "segments": false, "output_name": null,
                "compression": "zstd:3", "modules": [], "keep_module_compression": true},
            "repositories": {"fedora": digest("repomd")}, "packages": [], "kernels": [], "outputs": [],
        });
        change(&mut json);
        Manifest::parse(json.to_string().as_bytes()).unwrap()
    }

    fn judged(change: impl FnOnce(&mut Value)) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let recorded = |name: &str, manifest: &Manifest| {
            let path = directory.path().join(name);
            std::fs::write(&path, manifest.to_json().unwrap()).unwrap();
            Recorded::open(&path).unwrap()
        };
        let (a, b) = (recorded("a", &manifest(|_| ())), recorded("b", &manifest(change)));
        let rebuild = judge(&a.manifest, &b.manifest, compare::outputs(&a, &b, &Limits::default()).unwrap());
        assert_eq!(rebuild.is_equal(), rebuild.comparison.count == 0);
        (rebuild.other_inputs, rebuild.comparison.differences.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_made_the_inputs_differ_is_named() {
        let other = Digest::of(b"other");
        let nothing: (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        assert_eq!(judged(|_| ()), nothing);
        let (others, differences) = judged(|manifest| {
            manifest["inputs"] = json!(other);
            manifest["ocinitrd_source"] = json!(other);
            manifest["ocinitrd_version"] = json!("1.1");
        });
        assert_eq!(others, ["another version of ocinitrd (1.0; this is 1.1)"]);
        assert_eq!(differences, [""; 0], "another program that makes the same is no difference");
        let (others, differences) = judged(|manifest| {
            manifest["inputs"] = json!(other);
            manifest["builder"]["tools"] = json!(["rpm 6"]);
            manifest["options"]["modules"] = json!(["xfs"]);
        });
        assert_eq!(others, ["another lock", "another definition"]);
        assert_eq!(differences, ["builder.tools: [] -> [\"rpm 6\"]", "options.modules: [] -> [\"xfs\"]"]);
        let (others, _) = judged(|manifest| manifest["inputs"] = json!(other));
        assert_eq!(others, ["something in the definition or the lock that the manifest does not record"]);
    }

    #[test]
    fn manifest_that_was_changed_by_hand_has_the_same_inputs_and_is_not_equal() {
        let (others, differences) = judged(|manifest| manifest["epoch"] = json!(6));
        assert_eq!((others.len(), differences), (0, vec!["epoch: 5 -> 6".to_owned()]));
    }
}
