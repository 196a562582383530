//! `redkit sessions`: how many there are, whose, and ending them.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use redkit_session::{ListedSession, SessionDirectory};
use serde::Serialize;

use crate::args::{Common, Consent};
use crate::confirm::confirm;
use crate::connect;
use crate::failure::Failure;
use crate::format;
use crate::names::counts;
use crate::output::{self, Table};

const HELP: &str = "\
No id of a session is shown, and none can be made of what is shown: Redis has keyed hashes of them only. Users'
names are shown unless the store encrypts them.

Examples:
  redkit sessions stores
  redkit sessions list web
  redkit sessions list web --user user-7
  redkit sessions revoke web --user user-7 --yes
  redkit sessions revoke web --handle 3kTb...";

/// Lists sessions by user and device, and ends them
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    task: SessionsTask,
}

#[derive(Debug, Subcommand)]
enum SessionsTask {
    /// Lists the stores there are, with how many sessions each has. It goes through all keys of the servers
    Stores,
    /// Lists the sessions of a store, the newest first. It goes through all keys of the servers
    List {
        /// The store's name
        name: String,
        /// Of this user only
        #[arg(long)]
        user: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Ends sessions: all of a user, or one by its handle
    Revoke {
        /// The store's name
        name: String,
        /// All sessions of this user
        #[arg(long, required_unless_present = "handle", conflicts_with = "handle")]
        user: Option<String>,
        /// The one with this handle, as `list` shows it
        #[arg(long)]
        handle: Option<String>,
        #[command(flatten)]
        consent: Consent,
    },
}

/// A row of `--json`: see `docs/cli.md`.
#[derive(Debug, Serialize)]
struct Row {
    handle: String,
    user: Option<String>,
    /// Whether there is a user whose name cannot be read here.
    is_user_encrypted: bool,
    device: String,
    created_at: String,
    last_seen: String,
    expires_at: String,
    ends_at: String,
    bytes: u64,
}

pub(crate) async fn run(common: &Common, args: SessionsArgs) -> Result<ExitCode, Failure> {
    let client = connect::client(common).await?;
    match args.task {
        SessionsTask::Stores => {
            let stores = counts(&client, "session", is_session).await?;
            match common.json {
                true => {
                    let rows: Vec<_> = stores
                        .iter()
                        .map(|(name, sessions)| serde_json::json!({ "name": name, "sessions": sessions }))
                        .collect();
                    output::json(&serde_json::json!({ "stores": rows }))?;
                }
                false => {
                    let mut table = Table::new(&["store", "sessions"]);
                    for (name, sessions) in stores {
                        table.row([name, sessions.to_string()]);
                    }
                    table.print("there are no sessions")?;
                }
            }
        }
        SessionsTask::List { name, user, limit } => {
            let directory = SessionDirectory::new(&client, &name)?;
            let mut newest = Newest::new(limit);
            match &user {
                Some(user) => newest.add(directory.of_user(user).await?),
                None => {
                    let mut pages = directory.pages();
                    while let Some(page) = pages.next().await {
                        newest.add(page?);
                    }
                }
            }
            let (sessions, left_out) = newest.into_parts();
            match common.json {
                true => {
                    let rows: Vec<_> = sessions.iter().map(Row::new).collect();
                    let is_complete = left_out == 0;
                    let document = serde_json::json!({ "store": name, "sessions": rows, "is_complete": is_complete });
                    output::json(&document)?;
                }
                false => {
                    print(&sessions)?;
                    output::left_out(left_out);
                }
            }
        }
        SessionsTask::Revoke {
            name,
            user,
            handle,
            consent,
        } => {
            let directory = SessionDirectory::new(&client, &name)?;
            let revoked = match (user, handle) {
                (Some(user), _) => of_user(&directory, &user, consent).await?,
                (None, handle) => {
                    by_handle(&directory, &handle.unwrap_or_default(), consent).await?
                }
            };
            match common.json {
                true => output::json(&serde_json::json!({ "revoked": revoked }))?,
                false => output::line(&format!("{revoked} sessions have ended"))?,
            }
        }
    }
    client.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Whether a key is a session: of the store itself, or of its store for `tower-sessions`.
fn is_session(key: &redkit_core::PatternKey<'_>) -> bool {
    matches!(key.role, Some("session" | "record"))
}

async fn of_user(
    directory: &SessionDirectory,
    user: &str,
    consent: Consent,
) -> Result<u64, Failure> {
    let sessions = directory.of_user(user).await?;
    let shown = format::printable(user);
    if sessions.is_empty() {
        return Err(Failure::new(
            format!("{shown} has no session in this store"),
            "see `redkit sessions stores` for the stores there are, and --namespace",
        ));
    }
    confirm(
        consent,
        &format!("End {} sessions of {shown}", sessions.len()),
    )?;
    Ok(directory.revoke_all(user).await?)
}

async fn by_handle(
    directory: &SessionDirectory,
    handle: &str,
    consent: Consent,
) -> Result<u64, Failure> {
    let mut pages = directory.pages();
    while let Some(page) = pages.next().await {
        let mut page = page?.into_iter();
        if let Some(session) = page.find(|session| session.handle.as_str() == handle) {
            confirm(consent, &format!("End the session of {}", who(&session)))?;
            return Ok(u64::from(directory.revoke(&session).await?));
        }
    }
    Err(Failure::new(
        "no session of this store has that handle",
        "see `redkit sessions list`; it may have ended",
    ))
}

fn who(session: &ListedSession) -> String {
    match &session.user {
        Ok(Some(user)) => format::printable(user),
        Ok(None) => "nobody yet".to_owned(),
        Err(_) => "(encrypted)".to_owned(),
    }
}

/// A session, or what stands for it in a test.
trait Created {
    fn created_at(&self) -> SystemTime;
}

impl Created for ListedSession {
    fn created_at(&self) -> SystemTime {
        self.created_at
    }
}

/// The newest of many sessions that come in no order. It holds no more than twice as many as are asked for, and a page.
struct Newest<S> {
    limit: usize,
    kept: Vec<S>,
    left_out: usize,
}

impl<S: Created> Newest<S> {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Vec::new(),
            left_out: 0,
        }
    }

    fn add(&mut self, page: Vec<S>) {
        self.kept.extend(page);
        // Not with every page: most of what is kept would be sorted in vain.
        if self.kept.len() / 2 > self.limit {
            self.drop_the_oldest();
        }
    }

    fn drop_the_oldest(&mut self) {
        self.kept
            .sort_by_key(|session| std::cmp::Reverse(session.created_at()));
        self.left_out += self.kept.len().saturating_sub(self.limit);
        self.kept.truncate(self.limit);
    }

    /// The sessions, the newest first, and how many others there were.
    fn into_parts(mut self) -> (Vec<S>, usize) {
        self.drop_the_oldest();
        (self.kept, self.left_out)
    }
}

impl Row {
    fn new(session: &ListedSession) -> Self {
        Self {
            handle: session.handle.as_str().to_owned(),
            user: session.user.as_ref().ok().cloned().flatten(),
            is_user_encrypted: session.user.is_err(),
            device: session.device.clone(),
            created_at: format::time(session.created_at),
            last_seen: format::time(session.last_seen),
            expires_at: format::time(session.expires_at),
            ends_at: format::time(session.ends_at),
            bytes: session.bytes,
        }
    }
}

fn print(sessions: &[ListedSession]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "user",
        "device",
        "created",
        "last seen",
        "expires",
        "size",
        "handle",
    ]);
    for session in sessions {
        table.row([
            who(session),
            format::cut(&format::printable(&session.device), 40),
            format::ago(session.created_at),
            format::ago(session.last_seen),
            format::ago(session.expires_at),
            format::bytes(session.bytes),
            session.handle.as_str().to_owned(),
        ]);
    }
    table.print("there are no sessions")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    impl Created for u64 {
        fn created_at(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(*self)
        }
    }

    #[test]
    fn the_newest_of_many_sessions_are_kept_in_a_bounded_buffer() {
        for limit in [0, 1, 7, 1_000] {
            let mut newest = Newest::new(limit);
            // Each of 0 to 9,999 once, in no order.
            let all: Vec<u64> = (0..10_000).map(|number| number * 7_919 % 10_000).collect();
            for page in all.chunks(100) {
                newest.add(page.to_vec());
                assert!(newest.kept.len() <= 2 * limit + 100, "{limit}");
            }
            let (kept, left_out) = newest.into_parts();
            let expected: Vec<u64> = (0..10_000).rev().take(limit).collect();
            assert_eq!((kept, left_out), (expected, 10_000 - limit));
        }
    }
}
