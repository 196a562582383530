//! The commands and figures of the server that the engine lacks: exactly the list in the crate's
//! documentation.

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

/// The names between backquotes in a section of the documentation.
fn documented(section: &str) -> BTreeSet<String> {
    let docs = include_str!("../../../src/lib.rs");
    let (_, section) = docs.split_once(&format!("//! # {section}\n")).unwrap();
    let (section, _) = section.split_once("//! #").unwrap_or((section, ""));
    let lines = section.lines().take_while(|line| line.starts_with("//!"));
    let text: String = lines.collect::<Vec<_>>().join(" ");
    let names = text.split('`').skip(1).step_by(2);
    names.map(|name| name.replace(' ', "|")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_commands_are_documented() {
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
    // The members of an absent family are not listed, and `HELP` is listed once for all families.
    let families = absent.clone();
    absent.retain(|name| match name.split_once('|') {
        Some((family, member)) => !families.contains(family) && member != "HELP",
        None => true,
    });
    assert!(families.contains("XINFO|HELP") && ours.iter().all(|name| !name.ends_with("|HELP")));
    let bare = Embedded::new().call(&Command::new("COMMAND")).await;
    assert!(bare.is_err(), "{bare:?}");
    absent.extend(["HELP", "COMMAND"].map(str::to_owned));
    assert_eq!(absent, documented("Not there"));
}

/// The names of the fields of a reply to `INFO`, without the figures of databases and commands.
async fn info_fields(backend: &dyn Backend) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let info = Command::new("INFO").arg("everything").deadline(deadline);
    let text: String = backend.call(&info).await.unwrap().to().unwrap();
    text.lines()
        .filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
        .filter(|name| !name.starts_with("cmdstat_") && !name.starts_with("db"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_info_are_documented_and_are_the_servers() {
    let engine = Embedded::new();
    engine
        .call(&Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();
    let ours = info_fields(&engine).await;
    let mut listed = documented("`INFO`");
    listed.remove("INFO");
    assert_eq!(ours, listed);
    let server = Server::start(Program::Redis, ServerOptions::new())
        .await
        .unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let theirs = info_fields(&**client.backend()).await;
    let unknown: Vec<&String> = ours.difference(&theirs).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
