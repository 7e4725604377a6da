//! A guest under way: started, watched and ended; what its console told comes out.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::console::Console;
use super::dialogue::Dialogue;
use super::qemu::{Guest, Qemu, Start};
use ocinitrd_support::output::LogDirectory;
use ocinitrd_support::process::Running;
use ocinitrd_support::progress;

/// How often a run asks whether it was interrupted.
const TICK: Duration = Duration::from_millis(200);
/// What a failed boot may still say: call traces, and how to get into the system.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// QEMU stops the guest at this for ever, and does not end.
const KVM_FAULT: &str = "KVM internal error";

/// How a guest is watched.
pub struct Watch<'a> {
    /// When it is ended from outside.
    pub timeout: Duration,
    /// The directory that its console is kept in, and the name of the file.
    pub log: Option<(&'a LogDirectory, &'a str)>,
    /// Whether its console is shown on standard error.
    pub show: bool,
    /// Fails when the run was asked to end.
    pub interrupted: &'a (dyn Fn() -> Result<()> + Sync),
}

/// Why a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Our script in it was done, or its boot met a fault: the console says which.
    Told,
    /// It ended by itself. What QEMU said, which is nothing where the guest powered off.
    Exited(String),
    /// It took longer than it may.
    TimedOut,
    /// QEMU could not run it: its words.
    Broken(String),
}

/// What became of a guest.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What its console told.
    pub console: Console,
    /// Why it ended.
    pub ending: Exit,
}

/// Runs a guest until it is done, fails or takes too long.
///
/// # Errors
/// Fails when QEMU cannot be started, the log not be written, or the run is interrupted.
pub fn run(qemu: &Qemu, guest: &Guest, watch: &Watch<'_>) -> Result<Seen> {
    let mut run = Run::start(qemu, guest, watch)?;
    loop {
        (watch.interrupted)()?;
        if let Some(ending) = run.step()? {
            return Ok(run.end(ending));
        }
    }
}

/// The ending of a guest whose last line may lack its end, and is known only now.
fn with_last_line(ending: Exit, console: &Console) -> Exit {
    match ending {
        Exit::Exited(_) | Exit::TimedOut if console.fault().is_some() => Exit::Told,
        ending => ending,
    }
}

/// Runs a guest until it serves another. One that ends before is no server, but what was seen of it.
///
/// # Errors
/// As [`run`].
pub fn serve(qemu: &Qemu, guest: &Guest, watch: &Watch<'_>) -> Result<std::result::Result<Server, Seen>> {
    let mut run = Run::start(qemu, guest, watch)?;
    while !run.console.is_serving() {
        (watch.interrupted)()?;
        if let Some(ending) = run.step()? {
            return Ok(Err(run.end(ending)));
        }
    }
    Ok(Ok(Server(run)))
}

/// A guest that serves another until it is dropped.
pub struct Server(Run);

impl Drop for Server {
    fn drop(&mut self) {
        // What it said meanwhile is for the log, which is for those who look for what went wrong.
        let Run { output, log: Some(log), .. } = &mut self.0 else { return };
        for said in output.try_iter() {
            if let Output::Console(bytes) = said {
                let _ = log.write_all(&bytes);
            }
        }
    }
}

struct Run {
    process: Process,
    output: Receiver<Output>,
    show: bool,
    log: Option<File>,
    started: Instant,
    deadline: Instant,
    console: Console,
    dialogue: Dialogue,
    diagnostics: Vec<u8>,
}

impl Run {
    fn start(qemu: &Qemu, guest: &Guest, watch: &Watch<'_>) -> Result<Self> {
        let log = watch.log.map(|(directory, name)| directory.create(name)).transpose()?;
        let started = Instant::now();
        let mut process = Process(qemu.command(guest).spawn(Stdio::piped(), Stdio::piped(), Stdio::piped())?);
        Ok(Run {
            dialogue: Dialogue::new(guest.dialogue, process.0.child.stdin.take()),
            output: process.listen(),
            process,
            show: watch.show,
            log,
            started,
            deadline: started + watch.timeout,
            console: match guest.start {
                Start::Kernel { .. } => Console::default(),
                Start::Uefi { .. } => Console::behind_firmware(),
            },
            diagnostics: Vec::new(),
        })
    }

    /// Takes in what comes next, or lets a tick pass. Returns the end when it has come.
    fn step(&mut self) -> Result<Option<Exit>> {
        let now = Instant::now();
        let faulty = self.console.fault().is_some();
        if now >= self.deadline {
            return Ok(Some(if faulty { Exit::Told } else { Exit::TimedOut }));
        }
        self.dialogue.answer(now)?;
        match self.output.recv_timeout(TICK.min(self.deadline - now)) {
            Ok(Output::Console(bytes)) => self.take_console(&bytes)?,
            Ok(Output::Diagnostics(bytes)) => self.diagnostics.extend(bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if faulty => return Ok(Some(Exit::Told)),
            Err(RecvTimeoutError::Disconnected) => return self.process.verdict(&self.diagnostics).map(Some),
        }
        if let Some(line) = text(&self.diagnostics).lines().find(|line| line.contains(KVM_FAULT)) {
            return Ok(Some(Exit::Broken(line.to_owned())));
        }
        if !faulty && self.console.fault().is_some() {
            self.deadline = self.deadline.min(Instant::now() + LAST_WORDS);
        }
        Ok(self.console.is_done().then_some(Exit::Told))
    }

    fn end(mut self, ending: Exit) -> Seen {
        self.console.finish(self.started.elapsed());
        Seen { ending: with_last_line(ending, &self.console), console: self.console }
    }

    fn take_console(&mut self, bytes: &[u8]) -> Result<()> {
        self.console.feed(bytes, self.started.elapsed());
        self.dialogue.hear(bytes, Instant::now());
        if let Some(log) = &mut self.log {
            log.write_all(bytes).context("writing the console's log")?;
        }
        if self.show {
            progress::print(bytes);
        }
        Ok(())
    }
}

enum Output {
    Console(Vec<u8>),
    Diagnostics(Vec<u8>),
}

/// A QEMU that does not outlive its run.
struct Process(Running);

impl Process {
    /// What it prints from now on; disconnected when both streams have ended.
    fn listen(&mut self) -> Receiver<Output> {
        let (sender, receiver) = channel();
        if let Some(stdout) = self.0.child.stdout.take() {
            forward(stdout, sender.clone(), Output::Console);
        }
        if let Some(stderr) = self.0.child.stderr.take() {
            forward(stderr, sender, Output::Diagnostics);
        }
        receiver
    }

    fn verdict(&mut self, diagnostics: &[u8]) -> Result<Exit> {
        let status = self.0.child.wait().context("waiting for QEMU")?;
        let words = text(diagnostics).trim().to_owned();
        Ok(if status.success() { Exit::Exited(words) } else { Exit::Broken(format!("{words} ({status})")) })
    }
}

fn forward(mut stream: impl Read + Send + 'static, sender: Sender<Output>, wrap: fn(Vec<u8>) -> Output) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if sender.send(wrap(buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_in_a_line_that_never_ended_is_told_unless_qemu_itself_failed() {
        let mut console = Console::behind_firmware();
        console.feed(b"   Reboot Into Firmware Interface   ", Duration::ZERO);
        assert_eq!(with_last_line(Exit::TimedOut, &console), Exit::TimedOut);
        console.finish(Duration::ZERO);
        assert_eq!(with_last_line(Exit::TimedOut, &console), Exit::Told);
        assert_eq!(with_last_line(Exit::Exited(String::new()), &console), Exit::Told);
        let broken = Exit::Broken("no memory".to_owned());
        assert_eq!(with_last_line(broken.clone(), &console), broken);
    }
}
