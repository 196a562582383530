//! [`Arguments`]: what the program is asked for.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use redkit_simulation::{FEW_SEEDS, UNEXPLAINED};
use redkit_testkit::simulation::{Detail, Scenario};

/// Runs what redkit promises in simulated fleets, with faults from seeds.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
pub(crate) struct Arguments {
    /// The scenarios of a pattern, or one of them by its name; without it all of them but those that
    /// show a violation which is not mended yet, and those of which few seeds were run.
    #[arg(long)]
    pattern: Option<String>,
    /// How many seeds for each scenario.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed. By default another one each day.
    #[arg(long)]
    from: Option<u64>,
    /// So many seconds for all scenarios together; not all seeds may be run then.
    #[arg(long)]
    seconds: Option<u64>,
    /// One seed, told as a story.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Tells every message of that seed, too.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Lists the scenarios.
    #[arg(long)]
    pub(crate) list: bool,
}

/// How far apart the first seeds of two days are.
const A_DAY: u64 = 10_000_000;

impl Arguments {
    pub(crate) fn chooses(&self, scenario: &dyn Scenario) -> bool {
        match self.pattern.as_deref() {
            Some(name) => name == scenario.pattern() || name == scenario.name(),
            None => {
                let is_left_out = UNEXPLAINED.iter().any(|(name, _)| *name == scenario.name())
                    || FEW_SEEDS.contains(&scenario.name());
                self.list || !is_left_out
            }
        }
    }

    pub(crate) fn first_seed(&self) -> u64 {
        self.from.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let days = now.map_or(0, |now| now.as_secs() / 86_400);
            days * A_DAY
        })
    }

    pub(crate) fn seeds(&self) -> Range<u64> {
        let first = self.first_seed();
        first..first.saturating_add(self.seeds)
    }

    pub(crate) fn time(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }

    pub(crate) fn detail(&self) -> Detail {
        match self.trace {
            true => Detail::Messages,
            false => Detail::Story,
        }
    }
}
