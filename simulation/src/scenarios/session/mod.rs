//! Sessions: requests that change, rotate and end them at the same time.

mod browser;
mod judge;
mod requests;

use std::time::Duration;

use bytes::Bytes;
use redkit_core::Command;
use redkit_testkit::simulation::{
    FaultMenu, Scenario, ScenarioContext, ServerId, Violation, World, WorldOptions,
};

use self::browser::Browsers;
use self::judge::judge;
use self::requests::{Requests, audit};
use super::faults;

/// The scenarios of sessions.
pub(super) fn all() -> Vec<Box<dyn Scenario>> {
    vec![Box::new(Sessions)]
}

/// Processes answer requests of a few browsers: they load sessions, change entries, rotate ids, sign out, and revoke
/// one session, the others, or all of a user's. No session that has ended comes back; nobody is signed out without
/// having asked; of every session exactly one id is left; and no change is lost that was committed.
struct Sessions;

const PROCESSES: [&str; 4] = ["ann", "bob", "cem", "dot"];
const GRACE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(120);

impl Scenario for Sessions {
    fn name(&self) -> &'static str {
        "session"
    }

    fn pattern(&self) -> &'static str {
        "session"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_keep_data()
    }

    fn marks(&self) -> &'static [&'static str] {
        &[
            "signed in",
            "loaded",
            "found none",
            "committed",
            "rotated",
            "deleted",
            "revoked",
            "revoked others",
            "revoked all",
            "listed",
        ]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(16);
        let browsers = Browsers::default();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let browsers = browsers.clone();
            world.process(name, move |process| {
                let requests = Requests::new(process, browsers.clone());
                async move {
                    if let Some(requests) = requests {
                        requests.answer(operations).await;
                    }
                }
            });
        }
        let is_done = world.run_until_done(LIMIT);
        world.heal();
        faults::ends(is_done, &world)?;
        // What was left to the background is done, and all graces are over.
        world.run_for(GRACE + Duration::from_secs(5));
        let audited = browsers.clone();
        world.process("auditor", move |process| audit(process, audited.clone()));
        world.run_until_done(LIMIT);
        judge(&browsers, world.now())?;
        everything_ends(&mut world)
    }
}

/// # Errors
/// A key that never expires: what was written to a session that was over.
fn everything_ends(world: &mut World) -> Result<(), Violation> {
    let keys = world.ask(ServerId(0), Command::new("KEYS").arg("*"));
    let keys: Option<Vec<Bytes>> = keys.ok().and_then(|keys| keys.to().ok());
    let Some(keys) = keys else {
        let text = "the server does not tell its keys";
        return Err(Violation::new("every key ends", world.now()).fact(world.now(), text));
    };
    for key in keys {
        let left = world.ask(ServerId(0), Command::new("PTTL").key(&*key));
        let left = left.ok().and_then(|left| left.to::<i64>().ok());
        if left.is_none_or(|left| left == -1) {
            let text = format!("`{}` stays for ever", String::from_utf8_lossy(&key));
            return Err(Violation::new("every key ends", world.now()).fact(world.now(), text));
        }
    }
    Ok(())
}
