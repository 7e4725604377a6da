//! What `setup` prints: the machine, what becomes of the old configuration, the files, the trial, and the way back.

use std::io::{self, Write};

use indicatif::DecimalBytes;
use serde::Serialize;

use super::trial::Trial;
use crate::migration::{Caller, Finding, Outcome, Plan, PlannedFile, Survey};
use ocinitrd_format::text::one_line;

/// All that is printed.
pub struct Report<'a> {
    /// Whether nothing is going to be changed.
    pub dry_run: bool,
    /// What is there, and what is going to be written.
    pub plan: &'a Plan,
    /// The trial, if it could be made.
    pub trial: Option<&'a Trial>,
    /// What keeps it from being done.
    pub problem: Option<&'a str>,
    /// Whether lines of the distribution's are shown.
    pub shows_distribution: bool,
}

#[derive(Serialize)]
pub(super) struct Json<'a> {
    dry_run: bool,
    survey: &'a Survey,
    findings: &'a [Finding],
    files: Vec<JsonFile<'a>>,
    trial: Option<JsonTrial<'a>>,
    notes: &'a [String],
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    path: &'a str,
    reason: &'a str,
    text: String,
}

#[derive(Serialize)]
struct JsonTrial<'a> {
    kernel_version: &'a str,
    size_bytes: Option<u64>,
    modules: Option<usize>,
    initrd: Option<&'a str>,
    entry: Option<JsonFile<'a>>,
    start: Option<&'a str>,
    reason: Option<&'a str>,
    warnings: &'a [String],
}

impl Report<'_> {
    /// The same for programs.
    pub fn json(&self) -> Json<'_> {
        Json {
            dry_run: self.dry_run,
            survey: &self.plan.survey,
            findings: &self.plan.findings,
            files: self.plan.files.iter().map(json_file).collect(),
            trial: self.trial.map(|trial| JsonTrial {
                kernel_version: &trial.kernel_version,
                size_bytes: trial.made.map(|(size_bytes, _)| size_bytes),
                modules: trial.made.map(|(_, modules)| modules),
                initrd: trial.initrd.as_deref(),
                entry: trial.entry.as_ref().map(json_file),
                start: trial.start.as_deref(),
                reason: trial.reason.as_deref(),
                warnings: &trial.warnings,
            }),
            notes: &self.plan.notes,
            problem: self.problem,
        }
    }

    /// Writes it as text.
    ///
    /// # Errors
    /// Fails when `output` does.
    pub fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        self.write_machine(output)?;
        self.write_findings(output)?;
        self.write_files(output)?;
        if let Some(trial) = self.trial {
            write_trial(output, trial)?;
        }
        for note in &self.plan.notes {
            writeln!(output, "note: {}", one_line(note))?;
        }
        writeln!(output, "Way back: `ocinitrd kernel-install setup --undo`")
    }

    fn write_machine(&self, output: &mut dyn Write) -> io::Result<()> {
        let survey = &self.plan.survey;
        let systemd = survey.systemd.map_or("of unknown version".to_owned(), |version| version.to_string());
        let listed =
            |names: Vec<&str>| if names.is_empty() { "none that is known".to_owned() } else { names.join(", ") };
        let loaders = listed(survey.loaders.iter().map(|loader| loader.name()).collect());
        let generators = listed(survey.generators.iter().map(|generator| generator.name()).collect());
        writeln!(output, "systemd: {systemd}")?;
        writeln!(
            output,
            "layout: {} ({}), entries in {}",
            one_line(&survey.layout),
            one_line(&survey.layout_by),
            survey.boot
        )?;
        writeln!(output, "boot loader: {loaders}")?;
        if survey.caller == Caller::DebianHooks {
            writeln!(output, "no kernel-install: hooks of kernel packages make /boot/initrd.img-KVER")?;
        }
        let named = survey.initrd_generator.as_deref().map(|name| format!("; install.conf names {}", one_line(name)));
        writeln!(output, "generators of initrds: {generators}{}", named.unwrap_or_default())
    }

    fn write_findings(&self, output: &mut dyn Write) -> io::Result<()> {
        let shown: Vec<&Finding> =
            self.plan.findings.iter().filter(|finding| self.shows_distribution || !finding.by_distribution).collect();
        if !shown.is_empty() {
            writeln!(output, "\nWhat becomes of the configuration:")?;
        }
        for Finding { place, setting, outcome, text, .. } in &shown {
            let place = one_line(&place.to_string());
            writeln!(output, "  {place}  {}\n    {outcome}: {}", one_line(setting), one_line(text))?;
        }
        let hidden = self.plan.findings.len() - shown.len();
        if hidden > 0 {
            writeln!(output, "  lines of the distribution's own, which -v shows: {hidden}")?;
        }
        let by_hand =
            shown.iter().filter(|finding| matches!(finding.outcome, Outcome::ByHand | Outcome::NotRead)).count();
        if by_hand > 0 {
            writeln!(output, "  lines to look at, \"by hand\" or \"not read\": {by_hand}")?;
        }
        Ok(())
    }

    fn write_files(&self, output: &mut dyn Write) -> io::Result<()> {
        writeln!(output, "\nFiles:")?;
        if self.plan.files.is_empty() {
            writeln!(output, "  none: ocinitrd is asked already, and nothing is carried over")?;
        }
        self.plan.files.iter().try_for_each(|file| write_file(output, file))
    }
}

fn json_file(file: &PlannedFile) -> JsonFile<'_> {
    JsonFile { path: &file.path, reason: &file.reason, text: String::from_utf8_lossy(&file.bytes).into_owned() }
}

fn write_file(output: &mut dyn Write, file: &PlannedFile) -> io::Result<()> {
    writeln!(output, "  {}, which {}", one_line(&file.path), one_line(&file.reason))?;
    String::from_utf8_lossy(&file.bytes).lines().try_for_each(|line| writeln!(output, "    | {}", one_line(line)))
}

fn write_trial(output: &mut dyn Write, trial: &Trial) -> io::Result<()> {
    writeln!(output, "\nTrial with the kernel {}:", one_line(&trial.kernel_version))?;
    if let Some((size_bytes, modules)) = trial.made {
        let (size, place) = (DecimalBytes(size_bytes), trial.initrd.as_deref().unwrap_or("made and checked, not kept"));
        writeln!(output, "  {place}: {size}, {modules} modules; it has what the machine needs")?;
    }
    if let Some(entry) = &trial.entry {
        write_file(output, entry)?;
    }
    if let Some(reason) = &trial.reason {
        let what = if trial.initrd.is_some() { "no entry" } else { "no trial" };
        writeln!(output, "  {what}: {}", one_line(reason))?;
    }
    trial.start.iter().try_for_each(|start| writeln!(output, "  {start}"))
}
