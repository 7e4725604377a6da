//! Manual pages and completions of ocinitrd, made of what its `--help` is made of.
//!
//! They are written when packages are built, by a program of their own: the program that users run needs none of this.

mod page;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use ocinitrd::cli::args::CommandLine;

/// Writes `man1/*.1`, a page for the program and one for each subcommand, and `completions/` for bash, zsh and fish.
///
/// # Errors
/// Fails when a file cannot be written.
pub fn write(directory: &Path) -> Result<()> {
    let mut command = CommandLine::command().disable_help_subcommand(true);
    command.build();
    let pages = make_directory(directory, "man1")?;
    write_pages(&command, None, &pages)?;
    let completions = make_directory(directory, "completions")?;
    // A command that was built is not built again: completions have `help` as well.
    let mut command = CommandLine::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "ocinitrd", &completions)
            .with_context(|| format!("writing the completions for {shell}"))?;
    }
    Ok(())
}

fn make_directory(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: &Command, parent: Option<&str>, directory: &Path) -> Result<()> {
    let name = page::name_of(command);
    let path = directory.join(format!("{name}.1"));
    let text = page::render(command, parent).with_context(|| format!("making the page of {name}"))?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, Some(name), directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        directory
    }

    #[test]
    fn each_command_has_a_page_by_its_name() {
        let directory = written();
        let mut pages = vec!["ocinitrd".to_owned()];
        for command in CommandLine::command().get_subcommands() {
            let name = format!("ocinitrd-{}", command.get_name());
            pages.extend(command.get_subcommands().map(|inner| format!("{name}-{}", inner.get_name())));
            pages.push(name);
        }
        pages.sort();
        let listing = fs::read_dir(directory.path().join("man1")).unwrap();
        let mut found: Vec<String> =
            listing.map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".1", "")).collect();
        found.sort();
        assert_eq!(found, pages);
        assert!(found.len() > 20 && found.contains(&"ocinitrd-store-gc".to_owned()), "{found:?}");
    }

    #[test]
    fn each_shell_completes_the_commands_and_their_options() {
        let directory = written();
        for name in ["ocinitrd.bash", "_ocinitrd", "ocinitrd.fish"] {
            let text = fs::read_to_string(directory.path().join("completions").join(name)).unwrap();
            for word in ["kernel-install", "policy-digest", "rpm-dir"] {
                assert!(text.contains(word), "{name}: {word}");
            }
        }
    }
}
