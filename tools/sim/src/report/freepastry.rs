//! Ours beside what was measured of FreePastry's SplitStream: 16 stripes in its own simulator,
//! up to five seeds.

use serde_json::Value;

use super::fold::{Chapter, Fold};
use super::html::{Html, paragraph, section, table};
use super::number::{Unit, plain};
use super::paper::{all, published, who};
use super::runs::interior;
use crate::result::EventResult;

/// A forest without failures.
#[derive(Debug)]
struct Forest {
    peers: u32,
    capacity: &'static str,
    /// Mean and largest depth, interior histogram, largest out-degree, orphans, join messages per
    /// node, worst loss.
    figures: [&'static str; 7],
}

const FORESTS: [Forest; 6] = [
    of(100, "16x16", ["1.98", "5–6", "0 / 49 / 13 / 38", "16", "0–4", "260–300", "4–5"]),
    of(100, "16x24", ["1.77", "3", "0 / 63 / 29 / 8", "24", "0", "103–117", "2–3"]),
    of(500, "16x16", ["2.47", "6", "0 / 383 / 49 / 68", "16", "1–22", "700–990", "3–4"]),
    of(500, "16x18", ["2.3", "4–5", "3 / 424 / 62 / 11", "18", "0", "", "2"]),
    of(500, "16x24", ["2.07–2.12", "3", "28 / 472 / 0 / 0", "24", "0", "248–308", "1"]),
    of(1000, "16x24", ["2.49", "4", "62 / 938 / 0 / 0", "24", "0", "394", "1"]),
];

const fn of(peers: u32, capacity: &'static str, figures: [&'static str; 7]) -> Forest {
    Forest { peers, capacity, figures }
}

/// What befell a forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Topmost,
    Tenth,
}

/// A failure: what, peers, capacity, and its figures.
#[derive(Debug)]
struct Failure {
    blow: Blow,
    peers: u32,
    capacity: &'static str,
    /// Seeds, stripes left just after, all back after, stripe-seconds lost, worst viewer.
    figures: [&'static str; 5],
}

const FAILURES: [Failure; 5] = [
    failure(Blow::Topmost, 100, "16x24", ["1–2", "93.75 %", "29 s", "21.4–29.6", "15"]),
    failure(Blow::Topmost, 500, "16x24", ["1", "93.75 %", "29 s", "21.4–29.6", "15"]),
    failure(
        Blow::Tenth,
        500,
        "16x24",
        ["1 / 2 / 3", "81 / 93 / 99.7 %", "155 / 14 / 113 s", "67.5 / 13.7 / 0.95", "≥ 12"],
    ),
    failure(Blow::Tenth, 500, "16x16", ["1", "79.3 %", "never in 240 s", "512", "< 12"]),
    failure(Blow::Tenth, 1000, "16x24", ["1", "74.3 %", "never in 240 s", "305", "< 12"]),
];

const fn failure(
    blow: Blow,
    peers: u32,
    capacity: &'static str,
    figures: [&'static str; 5],
) -> Failure {
    Failure { blow, peers, capacity, figures }
}

/// All tables; empty where no run is comparable.
pub(super) fn freepastry(chapters: &[Chapter<'_>]) -> Html {
    let body = forests(chapters).then(&failures(chapters));
    if body.is_empty() {
        return body;
    }
    let note = "FreePastry as measured in its own simulator, which tells the peers of a tree of a \
                death at once; real networks are worse. Rows “freepastry (…)” are its algorithm \
                rebuilt in this simulator. Its figures at 16x18, and at 100 peers with 16x16, are \
                indicative; of its worst viewer after the death of a tenth it is only known \
                whether that fell below 12 stripes.";
    section("freepastry", "Beside FreePastry", &paragraph(note).then(&body))
}

fn own<'a>(chapters: &'a [Chapter<'a>]) -> impl Iterator<Item = (&'a Chapter<'a>, &'a Fold<'a>)> {
    all(chapters).filter(|(chapter, _)| chapter.name.starts_with("freepastry"))
}

fn forests(chapters: &[Chapter<'_>]) -> Html {
    let heads = [
        "who",
        "seeds",
        "depth, mean",
        "depth, max",
        "interior in 0 / 1 / 2 / 3+",
        "out-degree, max",
        "orphans",
        "requests per peer",
        "worst loss to one death",
    ];
    // Sizes nobody published stand alone.
    let mut places: Vec<(u32, &str)> =
        own(chapters).map(|(_, fold)| (fold.first.nodes, fold.capacity())).collect();
    places.sort_unstable();
    places.dedup();
    let mut body = Html::default();
    for (peers, capacity) in places {
        let is_same = |fold: &Fold<'_>| {
            !fold.has_events() && fold.first.nodes == peers && fold.capacity() == capacity
        };
        let theirs = FORESTS.iter().filter(|row| row.peers == peers && row.capacity == capacity);
        let theirs = theirs.map(|row| {
            let cells = [published("FreePastry"), Html::text("up to 5")];
            cells.into_iter().chain(row.figures.map(Html::text)).collect()
        });
        let ours: Vec<Vec<Html>> = own(chapters)
            .filter(|(_, fold)| is_same(fold))
            .map(|(chapter, fold)| forest_row(chapter, fold))
            .collect();
        if !ours.is_empty() {
            let rows: Vec<Vec<Html>> = theirs.chain(ours).collect();
            let caption = format!("{} peers, {}", plain(f64::from(peers)), cap(capacity));
            body.push(&table(&caption, &heads, &rows));
        }
    }
    body
}

fn cap(capacity: &str) -> String {
    let children = capacity.rsplit('x').next().unwrap_or(capacity);
    format!("at most {children} children")
}

fn forest_row(chapter: &Chapter<'_>, fold: &Fold<'_>) -> Vec<Html> {
    let texts = [
        fold.seeds(),
        fold.metric("depth_mean", Unit::Plain),
        fold.metric("depth_max", Unit::Plain),
        interior(fold),
        fold.metric("out_degree_max", Unit::Plain),
        fold.metric("orphans", Unit::Plain),
        fold.metric("requests_mean", Unit::Plain),
        fold.metric("worst_loss_max", Unit::Plain),
    ];
    std::iter::once(who(chapter, fold)).chain(texts.map(|text| Html::text(&text))).collect()
}

fn blow(fold: &Fold<'_>) -> Option<Blow> {
    let who = fold.spec("/event/0/who").and_then(Value::as_str);
    let event = Fold::blow(fold.first)?;
    if who == Some("topmost") {
        return Some(Blow::Topmost);
    }
    let share = f64::from(event.victims) / f64::from(event.victims + event.viewers);
    ((share - 0.1).abs() < 0.015).then_some(Blow::Tenth)
}

fn failures(chapters: &[Chapter<'_>]) -> Html {
    let topmost = (Blow::Topmost, "The topmost peer of a stripe dies");
    [topmost, (Blow::Tenth, "A tenth dies at once")]
        .into_iter()
        .map(|(blow, caption)| failure_table(chapters, blow, caption))
        .collect()
}

fn failure_table(chapters: &[Chapter<'_>], wanted: Blow, caption: &str) -> Html {
    let heads = [
        "who",
        "peers",
        "capacity",
        "seeds",
        "stripes left just after",
        "all back after",
        "stripe-seconds lost per peer",
        "worst viewer, stripes",
        "peers that lacked the same stripe, at worst",
    ];
    let ours: Vec<_> = own(chapters).filter(|(_, fold)| blow(fold) == Some(wanted)).collect();
    if ours.is_empty() {
        return Html::default();
    }
    let theirs = FAILURES.iter().filter(|row| row.blow == wanted).map(|row| {
        let peers = plain(f64::from(row.peers));
        let mut cells = vec![published("FreePastry")];
        cells.extend([&*peers, row.capacity].map(Html::text));
        cells.extend(row.figures.map(Html::text));
        cells
    });
    let rows: Vec<Vec<Html>> =
        theirs.chain(ours.into_iter().map(|(chapter, fold)| failure_row(chapter, fold))).collect();
    table(caption, &heads, &rows)
}

fn failure_row(chapter: &Chapter<'_>, fold: &Fold<'_>) -> Vec<Html> {
    let event =
        |of: fn(&EventResult) -> f64, unit: Unit| fold.write(|run| Fold::blow(run).map(of), unit);
    let texts = [
        plain(f64::from(fold.first.nodes)),
        fold.capacity().to_owned(),
        fold.seeds(),
        event(|event| event.rooted_after, Unit::Share),
        fold.all_back(),
        event(|event| event.stripe_seconds_lost, Unit::Plain),
        event(|event| f64::from(event.least_rooted), Unit::Plain),
        event(|event| event.worst_stripe_loss, Unit::Share),
    ];
    std::iter::once(who(chapter, fold)).chain(texts.map(|text| Html::text(&text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fold::chapters;
    use crate::result::RunResult;

    fn run(nodes: u32, capacity: &str) -> RunResult {
        RunResult {
            scenario: "freepastry".into(),
            variant: format!("{nodes}-{capacity}"),
            nodes,
            spec: serde_json::json!({ "population": { "capacity": capacity } }),
            ..RunResult::default()
        }
    }

    #[test]
    fn a_forest_stands_beside_one_of_its_size() {
        let html = freepastry(&chapters(&[run(500, "16x24"), run(777, "16x24")]));
        assert!(html.as_str().contains("28 / 472 / 0 / 0"));
        assert!(html.as_str().contains("777 peers"));
        assert!(!html.as_str().contains("0 / 63 / 29 / 8"));
    }

    #[test]
    fn the_death_of_a_tenth_stands_beside_another() {
        let event = EventResult { victims: 50, viewers: 450, ..EventResult::default() };
        let run = RunResult { events: vec![event], ..run(500, "16x16") };
        let html = freepastry(&chapters(&[run]));
        assert!(html.as_str().contains("never in 240 s"));
        assert!(!html.as_str().contains("topmost peer"));
    }
}
