//! Which of kbd's keymaps and fonts the console of an initrd needs: those that `/etc/vconsole.conf` names
//! ([`crate::image::vconsole`]), with what they include. kbd has hundreds, and each image needs one of each kind at most.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::image::tree::{Tree, TreePath, file_name};
use crate::image::vconsole::{self, CONFIGURATION, DATA, INCLUDED, KEYMAPS, KINDS, SETUP};
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_format::text::{Escaped, quoted};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// What becomes of kbd's files.
#[derive(Debug, Default)]
pub struct Console {
    /// Those that no setting needs.
    pub unread: BTreeSet<TreePath>,
    /// What a person should know of settings that do not count, a line each.
    pub remarks: Vec<String>,
}

/// Looks for what `tree` needs of kbd's files, where `is_reached` says whether a program was reached.
///
/// # Errors
/// Fails when a file that is named cannot be read.
pub fn console(tree: &Tree, is_reached: impl Fn(&[u8]) -> bool) -> Result<Console> {
    let has = |path: &str| tree.resolve(path.as_bytes()).is_some_and(|resolved| is_reached(&resolved));
    let mut console = Console::default();
    let mut needed = BTreeSet::new();
    let text = text(tree, CONFIGURATION.as_bytes())?.unwrap_or_default();
    for kind in &KINDS {
        let Some(value) = kind.value(&text) else { continue };
        let setting = format!("{}={}", kind.key, Escaped::text(&value));
        let found = find(tree, kind.directory, &value, kind.endings);
        let missing: Vec<String> =
            [SETUP, kind.program].iter().filter(|path| !has(path)).map(|path| format!("/{path}")).collect();
        if !missing.is_empty() {
            console.remarks.push(format!(
                "{setting} of /{CONFIGURATION} does not count in the initrd, which has no {}: build it with --profile vconsole",
                missing.join(" and no ")
            ));
        } else if found.is_empty() {
            console.remarks.push(format!(
                "{setting} of /{CONFIGURATION} is in no directory {}: install the package that has it, kbd-misc or kbd-legacy",
                kind.directory
            ));
        }
        for path in found {
            add(tree, path, kind.is_keymap(), &mut needed)?;
        }
    }
    let all = KINDS.iter().flat_map(|kind| files(tree, kind.directory, true));
    console.unread = all.filter(|path| !needed.contains(path)).collect();
    Ok(console)
}

/// Adds a file, and what it includes if it is a keymap.
fn add(tree: &Tree, path: TreePath, is_keymap: bool, needed: &mut BTreeSet<TreePath>) -> Result<()> {
    let mut waiting = vec![path];
    while let Some(path) = waiting.pop() {
        if !needed.insert(path.clone()) || !is_keymap {
            continue;
        }
        let text = text(tree, &path)?.unwrap_or_default();
        waiting.extend(vconsole::included(&text).flat_map(|name| find(tree, KEYMAPS, name, &INCLUDED)));
    }
    Ok(())
}

/// The text of a file, which may be compressed and behind links.
fn text(tree: &Tree, path: &[u8]) -> Result<Option<String>> {
    let Some(content) = tree.resolve(path).and_then(|path| tree.content(&path)) else { return Ok(None) };
    let bytes = regular_file::read_all(MultiDecoder::new(content.reader()), TEXT_LIMIT_BYTES);
    let bytes = bytes.with_context(|| format!("reading {}", quoted(path)))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// All files of that name: which of several is taken is the program's to decide.
fn find(tree: &Tree, directory: &str, name: &str, endings: &[&str]) -> Vec<TreePath> {
    if name.starts_with('/') {
        return tree.resolve(name.as_bytes()).into_iter().collect();
    }
    let fits = |path: &TreePath| vconsole::fits(&String::from_utf8_lossy(file_name(path)), name, endings);
    let found = files(tree, directory, directory == KEYMAPS).filter(fits);
    // It may be a link to a file of another name.
    found.flat_map(|path| tree.resolve(&path).into_iter().chain([path])).collect()
}

/// What lies in a directory of kbd's, below it too if it `is_deep`: files and links to files.
fn files<'a>(tree: &'a Tree, directory: &str, is_deep: bool) -> impl Iterator<Item = TreePath> + use<'a> {
    let places = DATA.iter().filter_map(|place| tree.resolve(format!("{place}/{directory}").as_bytes()));
    let places: BTreeSet<TreePath> = places.collect();
    places.into_iter().flat_map(move |place| {
        let inside: Vec<TreePath> = if is_deep {
            tree.below(&place).map(|(path, _)| path.clone()).collect()
        } else {
            tree.children(&place).map(|(path, _)| path.clone()).collect()
        };
        inside.into_iter().filter(|path| !tree.contains_dir(path))
    })
}
