//! `redkit watch`: the servers and the programs on them, live.

mod instances;
mod sample;
mod terminal;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};

use self::sample::Sampler;
pub use self::terminal::with_terminal;
use self::terminal::{Pressed, Screen};
use self::view::View;
use crate::args::Common;
use crate::connect;
use crate::failure::Failure;
use crate::output;

const HELP: &str = "\
Keys: q, Esc or Control-C quits; p or Space pauses; + and - change the interval.
The programs are shown that publish how they stand (redkit-monitor's dashboard), and have the namespace of --namespace.
It costs each server two commands in an interval (INFO and PING), and two more for the programs.

Examples:
  redkit watch
  redkit watch --interval 5s
  redkit --json watch --count 10 | jq .total.ops_per_second";

/// Shows the servers live: operations, memory, clients, latency, hit rate, by node, and redkit's programs
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct WatchArgs {
    /// How often the servers are asked
    #[arg(long, default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Ends after so many looks
    #[arg(long)]
    count: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (LEAST..=MOST).contains(&time) {
        true => Ok(time),
        false => Err(format!("choose {LEAST:?} to {MOST:?}")),
    }
}

const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(3_600);

pub(crate) async fn run(common: &Common, args: &WatchArgs) -> Result<ExitCode, Failure> {
    if !common.json && !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard output is no terminal on which a live view could be drawn",
            "run it in a terminal, or add --json for one line of JSON at each interval",
        ));
    }
    let client = connect::client(common).await?;
    let target = connect::target(&connect::config(common)?);
    let sampler = Sampler::new(&client);
    match common.json {
        true => as_json(sampler, args).await?,
        false => live(sampler, args, target).await?,
    }
    client.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

async fn as_json(mut sampler: Sampler, args: &WatchArgs) -> Result<(), Failure> {
    let mut next = Instant::now();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            () = sleep_until(next) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        output::json_line(&sampler.next(args.interval).await)?;
        next += args.interval;
        left -= 1;
    }
    Ok(())
}

async fn live(mut sampler: Sampler, args: &WatchArgs, target: String) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("the terminal cannot be drawn on: {error}"),
            "use another terminal, or --json",
        )
    };
    let mut view = View::new(target, args.interval);
    let mut screen = Screen::open().map_err(failed)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut next = Instant::now();
    while left > 0 {
        screen.draw(|frame| view.draw(frame)).map_err(failed)?;
        let pressed = tokio::select! {
            pressed = screen.pressed() => Some(pressed),
            () = sleep_until(next), if !view.is_paused() => None,
        };
        match pressed {
            Some(Pressed::Quit) => break,
            Some(Pressed::Pause) => view.pause(),
            Some(Pressed::Slower) => view.set_interval((view.interval() * 2).min(MOST)),
            Some(Pressed::Faster) => view.set_interval((view.interval() / 2).max(LEAST)),
            Some(Pressed::Redraw) => {}
            None => {
                // A key is answered also while a server is not.
                let sample = tokio::select! {
                    sample = sampler.next(view.interval()) => Some(sample),
                    () = screen.quits() => None,
                };
                let Some(sample) = sample else { break };
                view.take(sample);
                next = Instant::now() + view.interval();
                left -= 1;
            }
        }
        if pressed.is_some() && !view.is_paused() {
            next = next.min(Instant::now() + view.interval());
        }
    }
    Ok(())
}
