//! ffmpeg as a maker of clips and as the judge of what a viewer sees.
//!
//! Decides how it is run and what is said where it is missing. What it is asked to do is left to
//! [`super::clip`] and [`super::judge`].

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Says in one line what is wrong where there is no ffmpeg, or one without an H.264 encoder.
pub(crate) fn check() -> Result<()> {
    let output = match Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("this bench needs ffmpeg on the PATH, with libx264: install it and run again")
        }
        Err(error) => return Err(error).context("running ffmpeg"),
    };
    let has_encoder = String::from_utf8_lossy(&output.stdout).contains(" libx264 ");
    ensure!(has_encoder, "the ffmpeg on the PATH has no libx264: install one that has");
    Ok(())
}

/// Runs ffmpeg in `directory` and gives the lines it complained in.
///
/// One thread: benches run several side by side, and what a damaged stream decodes to does not
/// depend on how frames are shared out among threads.
pub(crate) fn run(directory: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let output = Command::new("ffmpeg")
        .current_dir(directory)
        .args(["-hide_banner", "-nostdin", "-y", "-v", "error"])
        .args(["-filter_threads", "1", "-filter_complex_threads", "1"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("running ffmpeg")?;
    let complaints: Vec<String> =
        String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    ensure!(
        output.status.success(),
        "ffmpeg failed: {}",
        complaints.last().map_or("without a word", String::as_str)
    );
    Ok(complaints)
}

/// Splits a command line at blanks.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
