//! The `ocinitrd` program: parse, log, dispatch, print the error chain.
use clap::Parser;
#[derive(Parser)]
enum Command {
    Doctor(ocinitrd::commands::doctor::Arguments),
}
fn main() -> std::process::ExitCode {
    let progress = ocinitrd::progress::Progress::new(ocinitrd::progress::Verbosity::Normal);
    let Command::Doctor(arguments) = Command::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    match runtime.block_on(ocinitrd::commands::doctor::run(&arguments, &progress)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
