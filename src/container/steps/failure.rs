//! A step that failed to an error: what its program answered is told apart from everything else that can go wrong.

use anyhow::{Error, anyhow};

use crate::container::engine::JobResult;
use crate::definition::dnf;
use ocinitrd_support::exhausted::Exhausted;

/// The exit code by which a script says that it did what it was asked, and the answer is no: dnf found no solution, rpm takes
/// no key of a repository. Nothing else that the scripts run ends with it.
const ANSWERED: i64 = 90;

/// How much of the narration of a step that failed is shown.
const LOG_LINES: usize = 30;

/// The error of a step that did not succeed: `answer` if its script says so, otherwise that `doing` it failed.
pub fn error(result: &JobResult, doing: &str, answer: impl FnOnce(&str) -> String) -> Error {
    let exhausted = Exhausted::in_log(&result.log);
    match exhausted {
        None if result.exit_code == ANSWERED => anyhow!(answer(&result.log)),
        None => anyhow!("{doing} failed (exit code {}); {}", result.exit_code, said(&result.log)),
        Some(exhausted) => anyhow!("{doing} failed, since where it runs {exhausted}; {}", said(&result.log)),
    }
}

/// The end of what the programs of a step said, where the reason is.
fn said(log: &str) -> String {
    let log = dnf::complaints(log);
    let lines: Vec<&str> = log.trim_end().lines().collect();
    match lines.len().checked_sub(LOG_LINES) {
        _ if lines.is_empty() => "it said nothing".to_owned(),
        None | Some(0) => format!("it said:\n{}", lines.join("\n")),
        Some(first) => format!("it said last (-v shows all):\n{}", lines[first..].join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(exit_code: i64, log: &str) -> String {
        let result = JobResult { exit_code, log: log.to_owned(), output_bytes: Vec::new() };
        error(&result, "solving", |log| format!("no solution: {log}")).to_string()
    }

    #[test]
    fn only_what_the_script_calls_an_answer_is_one() {
        assert_eq!(told(90, "conflict"), "no solution: conflict");
        assert_eq!(told(1, "a traceback\n"), "solving failed (exit code 1); it said:\na traceback");
        assert_eq!(told(127, ""), "solving failed (exit code 127); it said nothing");
    }

    #[test]
    fn what_the_machine_has_run_out_of_is_no_answer() {
        let expected = "solving failed, since where it runs too many files are open: allow more (ulimit -n, ulimit -Hn, \
                        LimitNOFILE= of a service); it said:\nerror: open of a.rpm failed: Too many open files\nNOT OK";
        assert_eq!(told(90, "error: open of a.rpm failed: Too many open files\nNOT OK\n"), expected);
        assert!(told(1, "write: No space left on device").contains("there is no room left on a disk"));
    }

    #[test]
    fn of_a_long_narration_the_end_is_shown() {
        assert_eq!(said("dnf\nno space\n"), "it said:\ndnf\nno space");
        let lines: Vec<String> = (1..=LOG_LINES + 2).map(|line| line.to_string()).collect();
        assert_eq!(said(&lines[..LOG_LINES].join("\n")), format!("it said:\n{}", lines[..LOG_LINES].join("\n")));
        let expected = format!("it said last (-v shows all):\n{}", lines[2..].join("\n"));
        assert_eq!(said(&lines.join("\n")), expected);
    }
}
