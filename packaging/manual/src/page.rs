//! One manual page: a clap command to roff.
//!
//! clap_mangen writes most of it. What stands behind the options in `--help`, such as examples, becomes sections of its own with
//! its lines kept, and what stands between backquotes becomes bold.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;

/// What lets an apostrophe stay one, in every roff.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The page of a command; `parent` is the page of the command that it belongs to.
pub fn render(command: &Command, parent: Option<&str>) -> Result<String> {
    let man = Man::new(in_words_of_pages(command));
    let mut sections = Vec::new();
    man.render_name_section(&mut sections)?;
    man.render_synopsis_section(&mut sections)?;
    man.render_description_section(&mut sections)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut sections)?;
    }
    man.render_options_section(&mut sections)?;
    // Each section begins with the preamble. Of what parts values from the text before them, mandoc takes one request only.
    let sections = String::from_utf8(sections)?.replace(PREAMBLE, "").replace(".br\n\n.br\n", ".sp\n");
    let mut text = PREAMBLE.to_owned();
    // clap_mangen leaves the quotes of a date away that there is not.
    let (name, version) = (name_of(command), command.get_version().unwrap_or_default());
    _ = writeln!(text, ".TH {} 1 \"\" \"ocinitrd {version}\" \"User Commands\"", name.to_uppercase());
    text.push_str(&in_bold(&sections));
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    for paragraph in after.map(ToString::to_string).unwrap_or_default().split("\n\n") {
        add_section(&mut text, paragraph);
    }
    add_see_also(&mut text, command, parent);
    Ok(text)
}

/// The name of a command's page.
pub fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The same command with the headings of pages, and without a full stop on the line that whatis(1) shows.
fn in_words_of_pages(command: &Command) -> Command {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command.get_long_about().cloned();
    let command = command.clone().subcommand_help_heading("COMMANDS").subcommand_value_name("COMMAND");
    let command = command.about(about.trim_end_matches('.').to_owned());
    match long {
        Some(long) => command.long_about(long),
        None => command,
    }
}

/// A paragraph that begins with `HEADING:`; what is indented stays as it is.
fn add_section(text: &mut String, paragraph: &str) {
    let Some((heading, rest)) = paragraph.split_once(':') else { return };
    // "Example, with a key in a token:"
    let (heading, remark) = heading.split_once(", ").unwrap_or((heading, ""));
    let heading = if heading == "Example" { "Examples" } else { heading };
    _ = writeln!(text, ".SH {}", heading.to_uppercase());
    let is_kept = |line: &&str| line.starts_with("  ");
    let remark = if remark.is_empty() { String::new() } else { format!("Example {remark}:") };
    let flowing = [remark.as_str()].into_iter().chain(rest.lines().filter(|line| !is_kept(line))).map(str::trim);
    let flowing: Vec<String> = flowing.filter(|line| !line.is_empty()).map(escaped).collect();
    if !flowing.is_empty() {
        _ = writeln!(text, "{}", in_bold(&flowing.join("\n")));
    }
    let kept: Vec<String> = rest.lines().filter(is_kept).map(|line| escaped(&line[2..])).collect();
    if !kept.is_empty() {
        let apart = if flowing.is_empty() { "" } else { ".PP\n" };
        _ = writeln!(text, "{apart}.nf\n.RS 4\n{}\n.RE\n.fi", kept.join("\n"));
    }
}

fn add_see_also(text: &mut String, command: &Command, parent: Option<&str>) {
    let mut pages: Vec<String> = parent.map(|parent| format!("{parent}(1)")).into_iter().collect();
    match name_of(command) {
        "ocinitrd" => pages.extend(["podman(1)", "dnf5(8)", "dracut(8)", "systemd(1)"].map(str::to_owned)),
        "ocinitrd-kernel-install" => pages.push("kernel-install(8)".to_owned()),
        "ocinitrd-uki" => pages.extend(["ukify(1)", "systemd-stub(7)"].map(str::to_owned)),
        _ => {}
    }
    let pages: Vec<String> = pages.iter().map(|page| page.replace('-', "\\-")).collect();
    _ = writeln!(text, ".SH SEE ALSO\n{}", pages.join(", "));
}

/// A line as roff prints it.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

/// What stands between backquotes on a line is bold.
fn in_bold(text: &str) -> String {
    let mut bold = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let parts: Vec<&str> = line.split('`').collect();
        if parts.len().is_multiple_of(2) {
            bold.push_str(line);
            continue;
        }
        for (index, part) in parts.iter().enumerate() {
            bold.push_str(if index % 2 == 1 { "\\fB" } else { "" });
            bold.push_str(part);
            bold.push_str(if index % 2 == 1 { "\\fR" } else { "" });
        }
    }
    bold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(command: Command) -> String {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        render(&command, None).unwrap()
    }

    #[test]
    fn examples_keep_their_lines_and_other_paragraphs_flow() {
        let text = page(Command::new("x").about("Does it.").after_long_help(
            "JSON: ok, and\nmore of `it`.\n\nExamples:\n  x --now 'a' \\\n      .b\n\nExample, with a key:\n  x",
        ));
        assert!(text.contains("x \\- Does it\n"), "{text}");
        assert!(text.contains(".SH JSON\nok, and\nmore of \\fBit\\fR.\n.SH EXAMPLES\n.nf\n"), "{text}");
        assert!(text.contains(".RS 4\nx \\-\\-now \\(aqa\\(aq \\e\n    .b\n.RE\n"), "{text}");
        assert!(text.contains(".SH EXAMPLES\nExample with a key:\n.PP\n"), "{text}");
    }

    #[test]
    fn what_stands_between_backquotes_is_bold_if_they_are_paired() {
        assert_eq!(in_bold("as `a b` prints\nit`s\n"), "as \\fBa b\\fR prints\nit`s\n");
    }
}
