//! Narration of a build: a bar with stage, bytes and time on a terminal, plain lines elsewhere; all on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, MultiProgress, ProgressBar, ProgressStyle};

use ocinitrd_format::text;

/// The bars on the terminal, of which there is one: what is printed meanwhile has to make room for itself.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How much is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verbosity {
    /// Errors and warnings only.
    Quiet,
    /// Stages, warnings, results.
    Normal,
    /// Also what the programs in the container print.
    Verbose,
}

/// Hands out stages. Cheap to clone.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    verbosity: Verbosity,
    terminal: bool,
}

impl Progress {
    /// Narrates on standard error, with bars if it is a terminal.
    pub fn new(verbosity: Verbosity) -> Self {
        Progress { verbosity, terminal: stderr().is_terminal() }
    }

    /// How much is told.
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Begins a stage of `total_bytes` bytes, or of unknown length.
    pub fn stage(&self, name: &str, total_bytes: Option<u64>) -> Stage {
        let bar = match (self.verbosity, self.terminal, total_bytes) {
            (Verbosity::Quiet, ..) | (_, false, _) => ProgressBar::hidden(),
            (_, true, Some(total)) => BARS.add(ProgressBar::new(total)).with_style(bytes_style()),
            (_, true, None) => BARS.add(ProgressBar::new_spinner()).with_style(spinner_style()),
        };
        bar.set_message(text::message(name));
        bar.enable_steady_tick(Duration::from_millis(200));
        Stage { name: name.to_owned(), started: Instant::now(), bytes: AtomicU64::new(0), bar, progress: *self }
    }

    /// A line about a fact worth knowing, such as which engine is used.
    pub fn note(&self, line: &str) {
        if self.verbosity != Verbosity::Quiet {
            print_line(line);
        }
    }

    /// A line of a program's own output: shown with `-v` only.
    pub fn detail(&self, line: &str) {
        if self.verbosity == Verbosity::Verbose {
            print_line(&format!("  | {}", text::terminal_line(line.as_bytes())));
        }
    }

    /// A warning: always shown.
    pub fn warn(&self, line: &str) {
        print_line(&format!("warning: {line}"));
    }
}

/// A stage under way.
#[derive(Debug)]
pub struct Stage {
    name: String,
    started: Instant,
    bytes: AtomicU64,
    bar: ProgressBar,
    progress: Progress,
}

impl Stage {
    /// Counts further bytes as done.
    pub fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
    }

    /// Ends the stage with one line: its name, `detail`, bytes if any were counted, and time. Returns the time taken.
    pub fn finish(self, detail: &str) -> Duration {
        self.bar.finish_and_clear();
        let elapsed = self.started.elapsed();
        let bytes = match self.bytes.into_inner() {
            0 => String::new(),
            bytes => format!(", {}", DecimalBytes(bytes)),
        };
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        self.progress.note(&format!("{}{detail}{bytes} ({:.1} s)", self.name, elapsed.as_secs_f64()));
        elapsed
    }
}

fn print_line(line: &str) {
    print(format!("{}\n", text::message(line)).as_bytes());
}

/// Prints on standard error, between the bars if there are any. A closed or full standard error must not end a build.
pub fn print(text: &[u8]) {
    BARS.suspend(|| {
        let _ = stderr().lock().write_all(text);
    });
}

fn bytes_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {elapsed}")
        .expect("the template is constant and valid")
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is constant and valid")
}
