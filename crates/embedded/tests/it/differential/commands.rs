//! What the server has and the engine has not: exactly what the crate's documentation says.

use std::collections::BTreeSet;
use std::time::Duration;

use redkit_core::{Backend, Client, ClientConfig, Command};
use redkit_embedded::Embedded;
use redkit_testkit::{Program, Server, ServerOptions};
use tokio::time::Instant;

async fn names(backend: &dyn Backend) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let list = Command::new("COMMAND").arg("LIST").deadline(deadline);
    let names: Vec<String> = backend.call(&list).await.unwrap().to().unwrap();
    names.iter().map(|name| name.to_ascii_uppercase()).collect()
}

/// The names between backquotes in the section about what is not there.
fn documented() -> BTreeSet<String> {
    let docs = include_str!("../../../src/lib.rs");
    let (_, section) = docs.split_once("//! # Not there\n").unwrap();
    let (section, _) = section.split_once("//! #").unwrap_or((section, ""));
    let lines = section.lines().take_while(|line| line.starts_with("//!"));
    let text: String = lines.collect::<Vec<_>>().join(" ");
    let names = text.split('`').skip(1).step_by(2);
    names.map(|name| name.replace(' ', "|")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_absent_is_documented() {
    let server = Server::start(Program::Redis, ServerOptions::new())
        .await
        .unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let theirs = names(&**client.backend()).await;
    let mut ours = names(&Embedded::new()).await;
    // Subscriptions are made with a method, not a command.
    ours.extend(
        ["", "P", "S"]
            .iter()
            .flat_map(|kind| [format!("{kind}SUBSCRIBE"), format!("{kind}UNSUBSCRIBE")]),
    );
    let mut absent: BTreeSet<String> = theirs.difference(&ours).cloned().collect();
    // A family that is absent goes without saying its members; nobody misses `HELP`.
    let families = absent.clone();
    absent.retain(|name| match name.split_once('|') {
        Some((family, member)) => !families.contains(family) && member != "HELP",
        None => true,
    });
    assert_eq!(absent, documented());
}
