//! How far runs are, on stderr: a bar for each where somebody watches, a line now and then where
//! that was asked for, nothing else.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::run::{Moment, peak_memory};

/// Between two updates of a bar.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Who is told, and how.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Nobody watches.
    Silent,
    /// Plain lines.
    Lines,
    /// Bars on a terminal.
    Bars(MultiProgress),
}

/// The progress of one run.
#[derive(Debug)]
pub struct Reporter {
    progress: Progress,
    name: String,
    bar: Option<ProgressBar>,
    last: Instant,
    last_steps: u64,
}

impl Progress {
    /// Begins to report a run.
    #[must_use]
    pub fn start(&self, name: String) -> Reporter {
        let bar = match self {
            Self::Bars(bars) => {
                let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
                let bar = bars.add(ProgressBar::new(1_000));
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_prefix(name.clone());
                Some(bar)
            }
            Self::Silent | Self::Lines => None,
        };
        let progress = self.clone();
        Reporter { progress, name, bar, last: Instant::now(), last_steps: 0 }
    }
}

impl Reporter {
    /// Tells where the run is, if it is time to.
    #[expect(clippy::print_stderr, reason = "progress was asked for")]
    pub fn tell(&mut self, moment: &Moment) {
        let interval = match self.progress {
            Progress::Silent => return,
            Progress::Lines => LINE_INTERVAL,
            Progress::Bars(_) => BAR_INTERVAL,
        };
        let passed = self.last.elapsed();
        if passed < interval {
            return;
        }
        let text = self.describe(moment, passed);
        self.last = Instant::now();
        self.last_steps = moment.steps;
        match &self.bar {
            Some(bar) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "thousandths of the run"
                )]
                bar.set_position((moment.at / moment.end * 1e3) as u64);
                bar.set_message(text);
            }
            None => eprintln!("{}: {text}", self.name),
        }
    }

    fn describe(&self, moment: &Moment, passed: Duration) -> String {
        let Moment { at, end, viewers, complete, steps, waiting } = *moment;
        let rate = crate::measure::ratio(steps - self.last_steps, 1) / passed.as_secs_f64();
        let memory = peak_memory().unwrap_or(0) / (1024 * 1024);
        format!(
            "{at:.1}/{end:.0} s, {viewers} viewers, {:.1} % complete, {:.0}k steps/s, \
             {waiting} wait, {memory} MiB",
            complete * 100.0,
            rate / 1e3
        )
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
