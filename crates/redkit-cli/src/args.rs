//! The command line, as far as all commands share it.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::{dashboard, doctor, keys, limits, locks, sessions, topics, watch};

const EXAMPLES: &str = "\
Examples:
  REDIS_URL=redis://localhost redkit doctor
  redkit --url rediss://cache.internal --namespace shop watch
  redkit locks list
  redkit topics redrive orders mail --all --yes
  redkit --json keys | jq '.prefixes[0]'

Environment:
  REDIS_URL           where the servers are, when there is no --url. A password belongs here, and not
                      on the command line, where `ps` shows it to every user of the machine
  REDKIT_NAMESPACE    and every other setting of redkit's clients by its name (REDKIT_USERNAME,
                      REDKIT_PASSWORD, REDKIT_TLS_CA_FILE, REDKIT_COMMAND_TIMEOUT, ...): see
                      docs/configuration.md

Exit status:
  0   done
  1   it could not be done: the cause and a remedy stand on standard error
  2   the command line or the configuration is wrong; nothing was done
  `redkit doctor` has its own: see `redkit doctor --help`";

/// Looks after a Redis or Valkey that programs use through redkit: what the patterns need of it, what they
/// do there, and acting on it.
#[derive(Debug, Parser)]
#[command(name = "redkit", version, propagate_version = true, after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the servers are: redis://, rediss://, unix://, redis-cluster://a,b or redis-sentinel://a,b/master.
    /// Prefer the variable REDIS_URL for a URL with a password
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The text in front of all keys, as the programs have it (`?namespace=` of a URL)
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// How long a connection, and each command, may take
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,

    /// Prints JSON on standard output, for programs; docs/cli.md has its fields
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    Doctor(doctor::DoctorArgs),
    Watch(watch::WatchArgs),
    Dashboard(dashboard::DashboardArgs),
    Keys(keys::KeysArgs),
    Locks(locks::LocksArgs),
    Limits(limits::LimitsArgs),
    Sessions(sessions::SessionsArgs),
    Topics(topics::TopicsArgs),
    /// Prints the completions for a shell
    ///
    /// For bash: `redkit completions bash > /etc/bash_completion.d/redkit`; for zsh into a file `_redkit` in a folder
    /// of `$fpath`; for fish into `~/.config/fish/completions/redkit.fish`.
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Leave to destroy something.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Consent {
    /// Does it without asking. Needed where nobody can be asked, as in a script
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            let has_example = help.contains(&format!("redkit {name}"));
            assert!(has_example, "{name}:\n{help}");
        }
    }
}
