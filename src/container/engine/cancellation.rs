//! Ctrl-C and SIGTERM as a value that every stage can ask or wait for.
//!
//! In: the process's signals. Out: an [`Interrupted`] error, which `main` turns into the exit code that a shell
//! expects. The default action of the signals is replaced for good, so a stage that computes for long has to
//! [`Cancellation::check`] from time to time. One that does not, since it waits for a disk or computes, is ended some seconds
//! later, with all that is under way ([`ocinitrd_support::output::abandon`]); only [`Unfinished`] work is waited for. A second signal ends
//! the process at once: what it leaves behind is removed by the next run.
//!
//! A signal that was ignored when the program was started stays ignored: SIGHUP under nohup(1), SIGINT in the background of a
//! shell without job control.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;

use ocinitrd_support::output;
use ocinitrd_support::progress;

/// How long a run may go on that was asked to end and has nothing to tidy up but its outputs.
const GRACE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(100);

/// How much work is under way that tidies up by itself.
static UNFINISHED: AtomicUsize = AtomicUsize::new(0);

/// Work that leaves something outside of this process if it is cut short, such as a container. It has to end soon when it is
/// asked to.
#[derive(Debug)]
pub struct Unfinished;

impl Unfinished {
    /// Begins such work, which ends when the value is dropped.
    pub fn begin() -> Self {
        UNFINISHED.fetch_add(1, Ordering::SeqCst);
        Unfinished
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        UNFINISHED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The signals that ask for an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// The terminal went away.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// The polite `kill`.
    Terminate,
}

impl Signal {
    fn number(self) -> u8 {
        match self {
            Signal::Hangup => 1,
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
        }
    }
}

/// The error of a stage that was asked to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interrupted {
    /// What asked.
    pub signal: Signal,
}

impl Interrupted {
    /// 128 and the signal's number, as shells report it: 130 for Ctrl-C, 143 for SIGTERM.
    pub fn exit_code(self) -> u8 {
        128 + self.signal.number()
    }

    /// The interruption that caused `error`, if one did, also where it passed through an `io::Error`.
    pub fn find(error: &anyhow::Error) -> Option<Self> {
        error.chain().find_map(|cause| {
            let within = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause.downcast_ref().or_else(|| within?.downcast_ref()).copied()
        })
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.signal {
            Signal::Hangup => "interrupted: the terminal was closed",
            Signal::Interrupt => "interrupted by Ctrl-C",
            Signal::Terminate => "interrupted by SIGTERM",
        })
    }
}

impl std::error::Error for Interrupted {}

/// Whether the run was asked to end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cancellation {
    state: watch::Receiver<Option<Signal>>,
}

/// Asks for the end of a run; for callers that have reasons other than signals.
#[derive(Debug)]
pub struct Trigger {
    state: watch::Sender<Option<Signal>>,
}

impl Trigger {
    /// Asks for the end, as if `signal` had come.
    pub fn pull(&self, signal: Signal) {
        self.state.send_replace(Some(signal));
    }
}

impl Cancellation {
    /// A cancellation that only its [`Trigger`] causes.
    pub fn manual() -> (Self, Trigger) {
        let (sender, state) = watch::channel(None);
        (Cancellation { state }, Trigger { state: sender })
    }

    /// Does `work`, unless the run is asked to end before it is done: then `work` is dropped where it stands. Not for work
    /// that has to tidy up, as jobs of an engine have, which listen themselves.
    ///
    /// # Errors
    /// Fails with what `work` failed with, or with [`Interrupted`].
    pub async fn unless<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            interrupted = self.cancelled() => Err(interrupted.into()),
            done = work => done,
        }
    }

    /// Listens for SIGHUP, SIGINT and SIGTERM from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// Fails when the signal handlers cannot be installed.
    pub fn on_signals() -> Result<Self> {
        let (cancellation, trigger) = Cancellation::manual();
        let ignored = ignored_signals(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let mut hangup = listen(Signal::Hangup, ignored)?;
        let mut interrupt = listen(Signal::Interrupt, ignored)?;
        let mut terminate = listen(Signal::Terminate, ignored)?;
        tokio::spawn(async move {
            let mut asked_before = false;
            loop {
                let signal = tokio::select! {
                    () = next(&mut hangup) => Signal::Hangup,
                    () = next(&mut interrupt) => Signal::Interrupt,
                    () = next(&mut terminate) => Signal::Terminate,
                };
                if asked_before {
                    std::process::exit(Interrupted { signal }.exit_code().into());
                }
                asked_before = true;
                trigger.pull(signal);
                std::thread::spawn(move || end_after_grace(signal));
            }
        });
        Ok(cancellation)
    }

    /// Waits until the run is asked to end; for ever if nobody can ask.
    pub async fn cancelled(&self) -> Interrupted {
        let mut state = self.state.clone();
        let answer = match state.wait_for(Option::is_some).await {
            Ok(signal) => *signal,
            Err(_) => None,
        };
        match answer {
            Some(signal) => Interrupted { signal },
            None => std::future::pending().await,
        }
    }

    /// Fails if the run was asked to end.
    ///
    /// # Errors
    /// Fails with what asked.
    pub fn check(&self) -> Result<(), Interrupted> {
        match *self.state.borrow() {
            Some(signal) => Err(Interrupted { signal }),
            None => Ok(()),
        }
    }
}

/// Listens for a signal unless it is `ignored`, a bit for each.
fn listen(signal: Signal, ignored: u64) -> Result<Option<unix::Signal>> {
    let number = signal.number();
    if ignored & (1 << (number - 1)) != 0 {
        return Ok(None);
    }
    unix::signal(SignalKind::from_raw(number.into())).context("installing a signal handler").map(Some)
}

/// Waits for the signal; for ever if it is ignored.
async fn next(signal: &mut Option<unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// The signals that a process ignores, of its proc_pid_status(5): a bit for each, none where nothing is said.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Ends the process if it has not ended by then. On a thread of its own: those of the runtime may be what does not end.
fn end_after_grace(signal: Signal) {
    std::thread::sleep(GRACE);
    while UNFINISHED.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(TICK);
    }
    output::abandon();
    let interrupted = Interrupted { signal };
    progress::print(format!("error: {interrupted}\n").as_bytes());
    std::process::exit(interrupted.exit_code().into());
}

impl From<Interrupted> for io::Error {
    /// Not of kind `Interrupted`: callers of `Read` and `Write` try that kind again.
    fn from(interrupted: Interrupted) -> Self {
        io::Error::other(interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_who_waits_hears_of_it_and_so_does_who_asks_later() {
        let (cancellation, trigger) = Cancellation::manual();
        assert!(cancellation.check().is_ok());
        let waiting = tokio::spawn({
            let cancellation = cancellation.clone();
            async move { cancellation.cancelled().await }
        });
        trigger.pull(Signal::Terminate);
        assert_eq!(waiting.await.unwrap().exit_code(), 143);
        assert_eq!(cancellation.check().unwrap_err().to_string(), "interrupted by SIGTERM");
        assert_eq!(cancellation.cancelled().await.signal, Signal::Terminate);
    }

    #[tokio::test]
    async fn without_anyone_to_ask_the_wait_does_not_end() {
        let (cancellation, trigger) = Cancellation::manual();
        drop(trigger);
        let wait = tokio::time::timeout(std::time::Duration::from_millis(20), cancellation.cancelled());
        assert!(wait.await.is_err());
    }

    #[test]
    fn what_is_ignored_is_read_from_the_status_of_a_process() {
        assert_eq!(ignored_signals("SigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored_signals("Name:\tocinitrd\n"), 0);
    }

    #[test]
    fn an_interrupted_write_is_not_tried_again() {
        let error: io::Error = Interrupted { signal: Signal::Interrupt }.into();
        assert_ne!(error.kind(), io::ErrorKind::Interrupted);
        let failure = anyhow::Error::from(error).context("writing the layer");
        assert_eq!(Interrupted::find(&failure).unwrap().exit_code(), 130);
        assert_eq!(Interrupted::find(&anyhow::anyhow!("disk full")), None);
    }
}
