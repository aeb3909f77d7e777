//! Whether the generated wire code is what the schema gives.
//!
//! Decides how the schema is compiled: with protox, so that no system `protoc` is needed, and
//! ahead of time, so that a build of Banyan needs no schema compiler at all.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const SCHEMA: &str = "banyan/v1/banyan.proto";
const GENERATED: &str = "crates/wire/src/generated/banyan.v1.rs";

/// Compares the committed code with a fresh one; with `bless`, replaces it.
pub(crate) fn check(root: &Path, bless: bool) -> Result<()> {
    let fresh = generate(root)?;
    let path = root.join(GENERATED);
    if bless {
        fs::write(&path, &fresh).with_context(|| format!("writing {GENERATED}"))?;
        return Ok(());
    }
    let committed = fs::read_to_string(&path).with_context(|| format!("reading {GENERATED}"))?;
    ensure!(
        committed == fresh,
        "{GENERATED} is not what proto/{SCHEMA} gives: run `cargo run -p banyan-tidy -- --bless`"
    );
    Ok(())
}

fn generate(root: &Path) -> Result<String> {
    let files = protox::compile([SCHEMA], [root.join("proto")]).context("compiling the schema")?;
    let out = tempfile::tempdir().context("making a folder for generated code")?;
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(files)
        .context("generating Rust from the schema")?;
    let code = fs::read_to_string(out.path().join("banyan.v1.rs"))?;
    Ok(code)
}
