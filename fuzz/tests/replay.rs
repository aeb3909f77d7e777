//! The corpus and every regression, as they are and mutated, through every target: no property fails and
//! no input takes more memory than its target allows.
//!
//! The same inputs on every machine and in every run. Where one fails it is left in a file, and the
//! message says where: under `regressions` that file is a test for good.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

#[path = "replay/mutate.rs"]
mod mutate;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use allocation_counter::measure;
use banyan_fuzz::{TARGETS, Target};
use mutate::Mutator;

/// Inputs of all targets together, at the least.
const ALL_INPUTS: usize = 100_000;
/// Most bytes of everything that is committed here to be replayed.
const MAX_CORPUS: u64 = 500 << 10;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn a_hundred_thousand_inputs_break_nothing_and_keep_the_bounds_of_memory() {
    let queue = Mutex::new(TARGETS.iter());
    let reports = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(TARGETS.len()) {
            scope.spawn(|| {
                loop {
                    let Some(target) = queue.lock().unwrap().next() else { break };
                    let report = replay(target);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    for report in &reports {
        println!(
            "{:16} {:6} inputs of {:3} files, at most {:7} bytes of memory, {:3} % of its bound",
            report.name, report.inputs, report.files, report.peak, report.share
        );
    }
    let failures: Vec<&str> = reports.iter().filter_map(|r| r.failure.as_deref()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    let inputs: usize = reports.iter().map(|report| report.inputs).sum();
    assert!(inputs >= ALL_INPUTS, "{inputs} inputs only");
}

#[test]
fn a_target_that_panics_or_hoards_is_found_out() {
    let target = |run| Target { name: "test", run, ..TARGETS[0] };
    assert!(check(&target(|_| {}), b"abc").is_ok());
    let panics = check(&target(|input| assert_eq!(input, b"other", "it is not")), b"abc");
    assert!(panics.unwrap_err().contains("it is not"));
    let hoards = target(|input| drop(std::hint::black_box(vec![1_u8; 1 << 20 | input.len()])));
    assert!(check(&hoards, b"abc").unwrap_err().contains("bytes of memory"));
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.into()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "names differ");
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let mut programs = BTreeSet::new();
    for entry in fs::read_dir(Path::new(ROOT).join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("run(\"{name}\", input)")), "{name} runs another target");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        programs.insert(name);
    }
    assert_eq!(programs, targets);
    for folder in ["corpus", "regressions"] {
        let folders: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join(folder))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        assert!(folders.is_subset(&targets), "{folder}: {folders:?}");
        assert!(folder == "regressions" || folders == targets, "{folders:?}");
    }
}

#[test]
fn the_corpus_is_small() {
    let sizes = TARGETS.iter().flat_map(files).map(|path| fs::metadata(path).unwrap().len());
    let size: u64 = sizes.sum();
    assert!(size <= MAX_CORPUS, "{size} bytes");
}

/// What came of a target.
struct Report {
    name: &'static str,
    files: usize,
    inputs: usize,
    /// Most bytes of memory of an input, and the highest share of its bound, in percent.
    peak: u64,
    share: u64,
    failure: Option<String>,
}

fn replay(target: &Target) -> Report {
    let files = files(target);
    let seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut report = Report {
        name: target.name,
        files: files.len(),
        inputs: 0,
        peak: 0,
        share: 0,
        failure: None,
    };
    // What is made once in the life of a process, as the coder's tables, is no input's doing.
    for seed in &seeds {
        let _ = catch_unwind(|| (target.run)(seed));
    }
    let mut mutator = Mutator::new(target.name, &seeds);
    let mutated = if target.is_slow { 3_000 } else { 11_000 };
    let names = files.iter().map(|path| path.display().to_string());
    let mutations = (0..mutated).map(|round| {
        let input = mutator.next();
        (format!("mutation {round}"), input)
    });
    for (name, input) in names.zip(seeds.iter().cloned()).chain(mutations) {
        report.inputs += 1;
        match check(target, &input) {
            Ok(peak) => {
                report.peak = report.peak.max(peak);
                report.share = report.share.max(peak * 100 / target.memory.allowance(input.len()));
            }
            Err(error) => {
                let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target.name);
                fs::write(&path, &input).unwrap();
                let path = path.display();
                report.failure =
                    Some(format!("{}, {name}: {error}; the input is in {path}", target.name));
                break;
            }
        }
    }
    report
}

/// Runs one input; gives the most memory it took at a time.
fn check(target: &Target, input: &[u8]) -> Result<u64, String> {
    let mut result = Ok(());
    let cost = measure(|| result = catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        return Err(format!("panicked: {}", text.unwrap_or("no message")));
    }
    let allowed = target.memory.allowance(input.len());
    if cost.bytes_max > allowed {
        let length = input.len();
        return Err(format!(
            "{} bytes of memory for {length} of input, {allowed} allowed",
            cost.bytes_max
        ));
    }
    Ok(cost.bytes_max)
}

/// The corpus of a target, then its regressions.
fn files(target: &Target) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(ROOT).join(folder).join(target.name);
        // Not every target has regressions.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.sort();
        files.append(&mut found);
    }
    files
}
