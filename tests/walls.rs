//! The walls between the folders of the sources: docs/architecture.md says what each imports, and imports go downwards only.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The section of docs/architecture.md with the table: a folder, what it holds, the folders that it imports from; the highest first.
const HEADING: &str = "## The folders";

type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn imports_are_those_of_the_table() {
    let (_, listed) = table();
    let found = found();
    for (folder, imports) in &found {
        assert_eq!(listed.get(folder), Some(imports), "what {folder} imports, in docs/architecture.md and in fact");
    }
    assert!(listed.keys().eq(found.keys()), "folders in docs/architecture.md: {:?}", listed.keys());
}

#[test]
fn imports_go_downwards() {
    let (order, listed) = table();
    let height = |folder: &String| order.iter().position(|one| one == folder);
    for (folder, imports) in &listed {
        for import in imports {
            assert!(height(import) > height(folder), "{folder} imports {import}, which is not below it");
        }
    }
}

/// The rows of the table: the folders in their order, and what each imports.
fn table() -> (Vec<String>, Imports) {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, section) = text.split_once(HEADING).expect("the section is there");
    let (mut order, mut imports) = (Vec::new(), Imports::new());
    for row in section.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [folder, _, imported] = cells[..] else { panic!("a row has three cells: {row}") };
        let folder = names(folder).remove(0);
        order.push(folder.clone());
        imports.insert(folder, names(imported).into_iter().collect());
    }
    (order, imports)
}

/// The words between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the sources import. The crates below `crates` count as folders.
fn found() -> Imports {
    let mut imports = Imports::new();
    for (place, own) in [("src", None), ("crates/format/src", Some("format")), ("crates/support/src", Some("support"))]
    {
        let place = root().join(place);
        for file in files(&place) {
            let inside = file.strip_prefix(&place).unwrap();
            let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let folder = own.unwrap_or_else(|| first.trim_end_matches(".rs"));
            if folder == "lib" {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let found = code.flat_map(|line| imported(line, own.is_none())).filter(|import| import != folder);
            imports.entry(folder.to_owned()).or_default().extend(found);
        }
    }
    imports
}

/// The folders whose paths are in a line.
fn imported(line: &str, has_folders: bool) -> Vec<String> {
    let mut found = Vec::new();
    let words: Vec<&str> = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).collect();
    for path in words {
        let mut parts = path.split("::");
        match (parts.next().unwrap_or_default(), parts.next()) {
            ("crate" | "ocinitrd", Some(folder)) if has_folders && !folder.is_empty() => found.push(folder.to_owned()),
            (name, Some(_)) => found.extend(name.strip_prefix("ocinitrd_").map(str::to_owned)),
            _ => {}
        }
    }
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
