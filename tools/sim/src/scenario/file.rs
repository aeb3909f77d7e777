//! Reading scenario files: inheritance, variants, and what makes a scenario valid.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use banyan_wire::StripeCount;
use toml::{Table, Value};

use super::{Churn, Deed, Event, Scenario};

/// Files that may stand behind each other by `base`.
const MAX_BASES: usize = 8;

/// One of the runs a file describes.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name; empty where the file has no variants.
    pub name: String,
    /// The run.
    pub scenario: Scenario,
}

/// Reads a file and everything it is based on: one run for each of its variants.
///
/// # Errors
/// Says which file cannot be read, which name is unknown, or which setting makes no sense.
pub fn load(path: &Path) -> Result<Vec<Variant>> {
    let mut table = with_bases(path, 0)?;
    let variants = match table.remove("variant") {
        None => vec![Table::new()],
        Some(Value::Array(variants)) => {
            variants.into_iter().map(table_of).collect::<Result<Vec<Table>>>()?
        }
        Some(_) => bail!("{}: `variant` must be a list: write [[variant]]", path.display()),
    };
    variants
        .into_iter()
        .map(|mut overrides| {
            let name = match overrides.remove("name") {
                Some(Value::String(name)) => name,
                None => String::new(),
                Some(other) => {
                    bail!("`name` of a variant must be a text, not {}", other.type_str())
                }
            };
            let mut merged = table.clone();
            merge(&mut merged, overrides);
            let place = || format!("{} {name}", path.display());
            let scenario: Scenario = merged.try_into().with_context(place)?;
            validate(&scenario).with_context(place)?;
            Ok(Variant { name, scenario })
        })
        .collect()
}

fn with_bases(path: &Path, depth: usize) -> Result<Table> {
    ensure!(depth < MAX_BASES, "{}: bases go round in circles", path.display());
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let mut table: Table =
        text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
    let Some(base) = table.remove("base") else {
        return Ok(table);
    };
    let Value::String(base) = base else { bail!("{}: `base` must be a file", path.display()) };
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut merged = with_bases(&folder.join(base), depth + 1)?;
    // Variants are a file's own: a base lends its settings, not its list of runs.
    merged.remove("variant");
    merge(&mut merged, table);
    Ok(merged)
}

/// Lays `over` over `under`: tables are merged, all else is replaced.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn table_of(value: Value) -> Result<Table> {
    match value {
        Value::Table(table) => Ok(table),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_) => bail!("a variant must be a table, not {}", value.type_str()),
    }
}

/// Checks what types cannot say.
pub(super) fn validate(scenario: &Scenario) -> Result<()> {
    let Scenario { world, latency, links, nat, population, broadcast, .. } = scenario;
    let stripes = broadcast.stripes;
    ensure!(
        StripeCount::new(stripes).is_some(),
        "broadcast.stripes = {stripes}: K is a power of two from 1 to 64"
    );
    ensure!(!world.duration.0.is_zero(), "world.duration must not be zero");
    ensure!(!broadcast.generation.0.is_zero(), "broadcast.generation must not be zero");
    ensure!(broadcast.stream_rate > 0, "broadcast.stream_rate must not be zero");
    ensure!(broadcast.random_access_every > 0, "broadcast.random_access_every must not be zero");
    ensure!(
        (4..=65_536).contains(&broadcast.payload),
        "broadcast.payload = {}: 4 bytes to 64 KiB",
        broadcast.payload
    );
    ensure!(!scenario.measure.sample.0.is_zero(), "measure.sample must not be zero");
    let after = scenario.measure.sample_after_event;
    ensure!(!after.0.is_zero(), "measure.sample_after_event must not be zero");
    ensure!(latency.min <= latency.max, "latency.min is above latency.max");
    if let Some(ratio) = broadcast.redundancy {
        ensure!((1.0..=8.0).contains(&ratio), "broadcast.redundancy = {ratio}: 1 to 8");
    }
    share("latency.loss", latency.loss)?;
    share("links.promised", links.promised)?;
    ensure!(links.promised > 0.0, "links.promised must not be zero");
    for (name, value) in [("open", nat.open), ("cone", nat.cone), ("symmetric", nat.symmetric)] {
        share(&format!("nat.{name}"), value)?;
    }
    share("nat.hole_punching", nat.hole_punching)?;
    ensure!(nat.open + nat.cone + nat.symmetric > 0.0, "nat: all shares are zero");
    let machine = &scenario.machine;
    ensure!(machine.nodes == 0 || machine.cores > 0, "machine.cores must not be zero");
    ensure!(machine.cores <= 1_024, "machine.cores = {}: at most 1,024", machine.cores);
    ensure!(population.joins_per_second >= 0.0, "population.joins_per_second is below zero");
    population.churn.iter().try_for_each(validate_churn)?;
    scenario.events.iter().try_for_each(|event| validate_event(event, scenario))?;
    for expect in &scenario.expect {
        ensure!(
            expect.max.is_some() || expect.min.is_some(),
            "expect `{}` has neither `max` nor `min`",
            expect.metric
        );
    }
    Ok(())
}

fn validate_churn(churn: &Churn) -> Result<()> {
    ensure!(!churn.session.0.is_zero(), "churn.session must not be zero");
    share("churn.graceful", churn.graceful)?;
    ensure!(churn.sigma >= 0.0, "churn.sigma is below zero");
    Ok(())
}

fn validate_event(event: &Event, scenario: &Scenario) -> Result<()> {
    let place = || format!("event at {}", event.at);
    ensure!(event.at <= scenario.world.duration, "{}: after the end of the run", place());
    ensure!(
        event.share.is_none() || event.count.is_none(),
        "{}: either `share` or `count`",
        place()
    );
    event.share.map_or(Ok(()), |value| share("share", value)).with_context(place)?;
    ensure!(
        event.deed != Deed::Partition || !event.span.0.is_zero(),
        "{}: a partition needs `for`",
        place()
    );
    ensure!(
        event.deed != Deed::Impair || event.share.is_some(),
        "{}: an impairment needs `share`",
        place()
    );
    ensure!(u32::from(event.stripe) < scenario.broadcast.stripes, "{}: no such stripe", place());
    Ok(())
}

fn share(name: &str, value: f64) -> Result<()> {
    ensure!((0.0..=1.0).contains(&value), "{name} = {value} is no share: 0 to 1");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Result<Scenario> {
        let table: Table = text.parse()?;
        let scenario = table.try_into()?;
        validate(&scenario)?;
        Ok(scenario)
    }

    #[test]
    fn an_empty_file_is_a_scenario() {
        assert!(scenario("").is_ok());
    }

    #[test]
    fn misspelt_names_are_refused() {
        assert!(scenario("[world]\nduraton = \"3s\"").is_err());
        assert!(scenario("[wrld]").is_err());
    }

    #[test]
    fn senseless_settings_are_named() {
        let error = scenario("[broadcast]\nstripes = 12").expect_err("12 is no power of two");
        assert!(error.to_string().contains("stripes = 12"));
        assert!(scenario("[latency]\nloss = 2.0").is_err());
        assert!(scenario("[machine]\nnodes = 9\ncores = 0").is_err());
        assert!(scenario("[[event]]\nat = \"90s\"\ndo = \"kill\"").is_err());
        assert!(scenario("[[event]]\nat = \"9s\"\ndo = \"partition\"").is_err());
    }

    #[test]
    fn tables_are_merged_and_values_replaced() {
        let mut under: Table = "a = 1\n[t]\nb = 2\nc = 3".parse().expect("TOML");
        merge(&mut under, "[t]\nc = 4".parse().expect("TOML"));
        assert_eq!(under, "a = 1\n[t]\nb = 2\nc = 4".parse().expect("TOML"));
    }

    #[test]
    fn every_scenario_of_the_repository_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for entry in std::fs::read_dir(folder).expect("the folder exists") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                assert!(!load(&path).expect("valid").is_empty());
            }
        }
    }
}
