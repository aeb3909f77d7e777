//! `banyan-sim`: runs scenarios, lists them, and makes reports of what they left behind.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use banyan_sim::progress::Progress;
use banyan_sim::result::{Outcome, RunResult, table::table};
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{Scenario, Variant, load};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Builds, breaks and measures overlays in a simulated world")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario; exits with 1 where a checker failed or a required goal was missed.
    Run {
        /// The scenario's file.
        scenario: PathBuf,
        /// Only the variant of this name, or, where there is none, those whose name contains this.
        #[arg(long)]
        variant: Option<String>,
        /// One seed, or a range such as 1..5 (both ends included).
        #[arg(long, default_value = "1")]
        seeds: String,
        /// Folder for the results; nothing is written without it.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Viewers, in place of the scenario's.
        #[arg(long)]
        nodes: Option<u32>,
        /// Runs at the same time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Tells how far it is, even where nobody seems to watch.
        #[arg(long)]
        progress: bool,
    },
    /// Lists the scenarios of a folder.
    List {
        /// The folder.
        #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))]
        folder: PathBuf,
    },
    /// Makes pages of results.
    Report {
        /// Folders with results.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
        /// Where the pages go.
        #[arg(long, default_value = "report")]
        out: PathBuf,
    },
}

/// A run to be done.
#[derive(Debug)]
struct Job {
    place: usize,
    name: Name,
    scenario: Scenario,
}

#[expect(clippy::print_stderr, reason = "a clear line where something is wrong")]
fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("banyan-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn execute(command: Command) -> Result<bool> {
    match command {
        Command::Run { scenario, variant, seeds, out, nodes, threads, progress } => {
            let jobs = jobs(&scenario, variant.as_deref(), &seeds, nodes)?;
            let results = run_all(jobs, threads, &watcher(progress))?;
            tell(&results, out.as_deref())?;
            Ok(results.iter().all(is_good))
        }
        Command::List { folder } => list(&folder).map(|()| true),
        Command::Report { folders, out } => {
            banyan_sim::report::write(&read_all(&folders)?, &out).map(|()| true)
        }
    }
}

fn jobs(
    path: &Path,
    variant: Option<&str>,
    seeds: &str,
    nodes: Option<u32>,
) -> Result<VecDeque<Job>> {
    let scenario_name = name_of(path);
    let mut jobs = VecDeque::new();
    let variants = load(path)?;
    let is_exact = variants.iter().any(|of| Some(of.name.as_str()) == variant);
    let wanted = |of: &Variant| {
        variant.is_none_or(|name| if is_exact { of.name == name } else { of.name.contains(name) })
    };
    for Variant { name, mut scenario } in variants.into_iter().filter(wanted) {
        scenario.population.nodes = nodes.unwrap_or(scenario.population.nodes);
        for seed in range(seeds)? {
            let name = Name { scenario: scenario_name.clone(), variant: name.clone(), seed };
            jobs.push_back(Job { place: jobs.len(), name, scenario: scenario.clone() });
        }
    }
    ensure!(!jobs.is_empty(), "{} has no such variant", path.display());
    Ok(jobs)
}

fn range(text: &str) -> Result<std::ops::RangeInclusive<u64>> {
    let number = |text: &str| {
        text.parse::<u64>().with_context(|| format!("--seeds {text} is neither 3 nor 1..5"))
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    Ok(number(first)?..=number(last.trim_start_matches('='))?)
}

fn watcher(wants_progress: bool) -> Progress {
    if std::io::stderr().is_terminal() {
        Progress::Bars(indicatif::MultiProgress::new())
    } else if wants_progress {
        Progress::Lines
    } else {
        Progress::Silent
    }
}

/// Runs everything on some threads; results in the order of the jobs.
fn run_all(jobs: VecDeque<Job>, threads: usize, progress: &Progress) -> Result<Vec<RunResult>> {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<Vec<(usize, RunResult)>> {
        let mut done = Vec::new();
        while let Some(Job { place, name, scenario }) = next() {
            let title = format!("{} {} seed {}", name.scenario, name.variant, name.seed);
            let mut reporter = progress.start(title.clone());
            let result = run(&scenario, &name, &mut |moment| reporter.tell(moment));
            done.push((place, result.context(title)?));
        }
        Ok(done)
    };
    let mut done = std::thread::scope(|scope| -> Result<Vec<(usize, RunResult)>> {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut done = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(results) => done.extend(results?),
                Err(_) => bail!("a run panicked; the lines above say where"),
            }
        }
        Ok(done)
    })?;
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn tell(results: &[RunResult], out: Option<&Path>) -> Result<()> {
    let text = table(results);
    print!("{text}");
    let Some(out) = out else { return Ok(()) };
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    for result in results {
        let variant = result.variant.replace(['/', ' '], "_");
        let name = format!("{}-{variant}-{}.json", result.scenario, result.seed);
        let json = serde_json::to_vec(result)?;
        std::fs::write(out.join(&name), json)
            .with_context(|| format!("{name} cannot be written"))?;
    }
    std::fs::write(out.join("table.txt"), text)?;
    Ok(())
}

fn is_good(result: &RunResult) -> bool {
    result.outcome == Outcome::Finished
        && result.expectations.iter().all(|expect| expect.is_met || !expect.is_required)
}

#[expect(clippy::print_stdout, reason = "the list is what the command is for")]
fn list(folder: &Path) -> Result<()> {
    for path in files(folder, "toml")? {
        let variants = load(&path)?;
        let about = variants.first().map_or("", |variant| variant.scenario.about.as_str());
        println!("{}: {about}", path.display());
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        if names.iter().any(|name| !name.is_empty()) {
            println!("    {}", names.join(", "));
        }
    }
    Ok(())
}

fn read_all(folders: &[PathBuf]) -> Result<Vec<RunResult>> {
    let mut results = Vec::new();
    for folder in folders {
        for path in files(folder, "json")? {
            let text = std::fs::read(&path)?;
            let result = serde_json::from_slice(&text)
                .with_context(|| format!("{} is no result", path.display()))?;
            results.push(result);
        }
    }
    Ok(results)
}

fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
