//! The top of the page: what ran, with which seeds, and when this was written.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use super::fold::Chapter;
use super::html::{Html, element, paragraph, tag};
use super::number::{date, plain};
use crate::result::RunResult;

/// Title and facts.
pub(super) fn head(results: &[RunResult], chapters: &[Chapter<'_>]) -> Html {
    let mut head = tag("h1", &Html::text("Banyan in the simulator"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let version = env!("CARGO_PKG_VERSION");
    let mut facts = vec![
        ("Written", Html::text(&date(now))),
        ("By", Html::text(&format!("banyan-sim {version}"))),
    ];
    if results.is_empty() {
        head.push(&list(&facts));
        return head.then(&paragraph("No results: there is nothing to report."));
    }
    let seeds: BTreeSet<u64> = results.iter().map(|run| run.seed).collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let simulated: f64 = results.iter().map(|run| run.cost.simulated).sum();
    let wall: f64 = results.iter().map(|run| run.cost.wall).sum();
    facts.push(("Scenarios", scenarios(chapters)));
    facts.push(("Seeds", Html::text(&seeds.join(", "))));
    let cost = format!(
        "{} runs: {} s of the world in {} s on the wall, runs side by side counted each",
        results.len(),
        plain(simulated.round()),
        plain(wall.round()),
    );
    facts.push(("Runs", Html::text(&cost)));
    head.push(&list(&facts));
    head.then(&paragraph(
        "Where several seeds ran, numbers are median [smallest–largest] over them. Whatever is \
         drawn over time or as a distribution is of the lowest seed.",
    ))
}

fn scenarios(chapters: &[Chapter<'_>]) -> Html {
    let name = |chapter: &Chapter<'_>| {
        let anchor = format!("#scenario-{}", chapter.name);
        element("a", &[("href", &anchor)], &Html::text(chapter.name))
    };
    let separator = Html::text(", ");
    chapters.iter().enumerate().fold(Html::default(), |all, (place, chapter)| {
        let all = if place == 0 { all } else { all.then(&separator) };
        all.then(&name(chapter))
    })
}

fn list(facts: &[(&str, Html)]) -> Html {
    let fact = |(name, value): &(&str, Html)| tag("dt", &Html::text(name)).then(&tag("dd", value));
    tag("dl", &facts.iter().map(fact).collect())
}
