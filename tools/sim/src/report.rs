//! Results as one page: a file that needs nothing else, for screens of any size, light or dark.
//!
//! Decides what is on the page and in which order. What was measured is [`crate::result`]'s; the
//! table for terminals is [`crate::result::table`].

mod after;
mod axis;
mod chart;
mod colour;
mod fold;
mod freepastry;
mod goals;
mod group;
mod growth;
mod head;
mod html;
mod kinds;
mod number;
mod paper;
mod plots;
mod runs;

use std::path::Path;

use anyhow::{Context, Result};

use crate::result::RunResult;
use fold::{Chapter, chapters};
use html::{Html, element, tag};

/// Name of the file in the folder it goes to.
const FILE: &str = "report.html";

/// Writes the report of `results` into the folder `out`, as `report.html`.
///
/// # Errors
/// Says what could not be drawn or written.
pub fn write(results: &[RunResult], out: &Path) -> Result<()> {
    let page = page(results)?;
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let path = out.join(FILE);
    std::fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))
}

fn page(results: &[RunResult]) -> Result<String> {
    let chapters = chapters(results);
    let mut body = element("header", &[], &head::head(results, &chapters));
    if !results.is_empty() {
        let paper = paper::paper(&chapters);
        let freepastry = freepastry::freepastry(&chapters);
        body.push(&contents(&chapters, !paper.is_empty(), !freepastry.is_empty()));
        body.push(&runs::runs(&chapters));
        body.push(&goals::goals(&chapters));
        body.push(&paper);
        body.push(&freepastry);
        for chapter in &chapters {
            let more =
                if group::is_growth(chapter) { growth::growth(chapter)? } else { Html::default() };
            body.push(&plots::plots(chapter, &more)?);
        }
    }
    Ok(frame(&body))
}

fn contents(chapters: &[Chapter<'_>], has_paper: bool, has_freepastry: bool) -> Html {
    let link = |anchor: &str, text: &str| {
        tag("li", &element("a", &[("href", &format!("#{anchor}"))], &Html::text(text)))
    };
    let mut links = link("runs", "Runs").then(&link("goals", "Goals"));
    if has_paper {
        links.push(&link("paper", "Beside the SplitStream paper"));
    }
    if has_freepastry {
        links.push(&link("freepastry", "Beside FreePastry"));
    }
    for chapter in chapters {
        let anchor = format!("scenario-{}", chapter.name);
        links.push(&link(&anchor, &format!("Scenario {}", chapter.name)));
    }
    element("nav", &[("aria-label", "Contents")], &tag("ul", &links))
}

fn frame(body: &Html) -> String {
    let style = include_str!("report/page.css");
    let (dashes, dark) = (colour::dash_rules(), colour::dark_rules());
    let main = tag("main", body);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Banyan in the simulator</title>\n<style>\n{style}{dashes}\
         @media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n</head>\n<body>\n{}\
         </body>\n</html>\n",
        main.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{CheckResult, EventResult, KindCount, Sample};

    fn run(scenario: &str, variant: &str, seed: u64) -> RunResult {
        RunResult {
            scenario: scenario.into(),
            variant: variant.into(),
            overlay: "banyan".into(),
            seed,
            nodes: 100,
            stripes: 16,
            ..RunResult::default()
        }
    }

    #[test]
    fn a_report_of_nothing_says_so() {
        assert!(page(&[]).expect("a page").contains("there is nothing to report"));
    }

    #[test]
    fn every_run_has_a_row() {
        let results = [run("s", "one", 1), run("s", "two", 1), run("t", "three", 4)];
        let page = page(&results).expect("a page");
        let start = page.find("id=\"runs\"").expect("a section of runs");
        let end = page.find("id=\"goals\"").expect("a section of goals");
        let rows = &page[start..end];
        for variant in ["one", "two", "three"] {
            assert!(rows.contains(&format!("<th scope=\"row\">{variant}</th>")), "{variant}");
        }
    }

    #[test]
    fn text_from_results_is_escaped() {
        let evil = || String::from("<script>alert(1)</script>");
        let mut run = run(&evil(), &evil(), 1);
        run.about = evil();
        run.overlay = evil();
        run.spec = serde_json::json!({ "latency": { "model": evil() } });
        run.world.latency_ms = crate::result::Distribution::of(vec![1.0, 2.0]);
        run.traffic.kinds = vec![KindCount { kind: evil(), messages: 7, ..KindCount::default() }];
        run.events = vec![EventResult { name: evil(), ..EventResult::default() }];
        run.series = vec![Sample { at: 1.0, ..Sample::default() }];
        run.checks = vec![CheckResult {
            name: evil(),
            breaches: 1,
            first: Some(evil()),
            ..CheckResult::default()
        }];
        let page = page(&[run]).expect("a page");
        assert!(page.contains("&lt;script&gt;"));
        assert!(!page.contains("<script"));
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let page = page(&[run("growth", "n100", 1)]).expect("a page");
        for elsewhere in ["src=", "url(", "@import", "<link"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_report_is_a_file_in_its_folder() {
        let folder = std::env::temp_dir().join(format!("banyan-report-{}", std::process::id()));
        write(&[run("s", "", 1)], &folder).expect("written");
        let page = std::fs::read_to_string(folder.join(FILE)).expect("the page");
        assert!(page.starts_with("<!doctype html>"));
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
