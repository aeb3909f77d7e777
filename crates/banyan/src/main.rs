//! The `banyan` binary: parses the command line, runs the command, turns its end into an exit code
//! (0 done, 1 failed, 2 bad usage).

use std::io::IsTerminal as _;
use std::process::ExitCode;

use banyan::cli::{Cli, LogFormat};
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

/// What is logged unless RUST_LOG says otherwise: warnings, but not libp2p's own, which report as
/// a warning that the first node of a network knows nobody.
const DEFAULT_LOG: &str = "warn,libp2p_kad=error,libp2p_swarm=error,libp2p_quic=error";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.log {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("banyan: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(banyan::commands::run(cli.command));
    // Readers of stdin and files may still be blocked; nothing waits for them.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("banyan: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
