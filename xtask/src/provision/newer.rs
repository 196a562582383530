//! Servers of newer Debian releases. They come with their own C library, because the machine's is older than
//! what they were built for, and are started by that library's loader.

use xshell::{Shell, cmd};

use super::Server;
use super::apt::{BOUND, PrivateApt, Sources, put_in_place};
use crate::Failure;

/// Newest first. What a release holds moves; any that has the version will do.
const RELEASES: [&str; 4] = ["experimental", "sid", "forky", "trixie"];

/// Unpacks the server under `target/servers`.
pub(super) fn unpack(sh: &Shell, server: &Server) -> Result<(), Failure> {
    let apt = PrivateApt::prepare(sh, Sources::NewerReleases)?;
    // A release whose index fails shows in what is missing afterwards.
    if let Err(error) = apt.update() {
        eprintln!("apt-get update: {error}");
    }
    let mut last: Failure = "nothing was tried".into();
    for release in RELEASES {
        match unpack_from(&apt, server, release) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unpack_from(apt: &PrivateApt<'_>, server: &Server, release: &str) -> Result<(), Failure> {
    let PrivateApt {
        sh,
        folder,
        configuration,
        ..
    } = apt;
    let archives = folder.join("cache/archives");
    sh.remove_path(&archives)?;
    sh.create_dir(archives.join("partial"))?;
    // The program lies in the package of the tools, under the name of one of them.
    let tools = server.executable.replace("-server", "-tools");
    cmd!(
        sh,
        "timeout {BOUND} apt-get -c {configuration} -q -y --no-install-recommends --download-only install {tools}/{release}"
    )
    .run()?;
    let unpacked = put_in_place(sh, server, &archives, &wrapper(server.executable));
    sh.remove_path(&archives)?;
    unpacked
}

/// Starts the program through the loader beside it. `exec`, so that the process is the server, and under the
/// server's name, from which the program takes what it is.
fn wrapper(executable: &str) -> String {
    let program = executable.replace("-server", "-check-rdb");
    format!(
        r#"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
for libraries in "$here"/root/usr/lib/*-linux-*; do
    [ -d "$libraries" ] && break
done
for loader in "$libraries"/ld-linux-*.so.*; do
    exec "$loader" --library-path "$libraries" --argv0 {executable} "$here/root/usr/bin/{program}" "$@"
done
"#
    )
}

/// The newer releases from the place that the machine has its own release from, with the same key.
pub(super) fn newer_sources(own: &[(String, String)], codename: &str) -> Vec<(String, String)> {
    let newer = |(name, text): &(String, String)| {
        let text = match name.ends_with(".list") {
            true => newer_lines(text, codename),
            false => newer_stanzas(text, codename),
        };
        (!text.is_empty()).then(|| (name.clone(), text))
    };
    own.iter().filter_map(newer).collect()
}

fn newer_lines(text: &str, codename: &str) -> String {
    let own = format!(" {codename} ");
    let lines = text.lines().filter(|line| line.contains(&own));
    let newer = lines.flat_map(|line| {
        let own = &own;
        RELEASES.map(|release| line.replacen(own, &format!(" {release} "), 1) + "\n")
    });
    newer.collect()
}

fn newer_stanzas(text: &str, codename: &str) -> String {
    let mut newer = String::new();
    for stanza in text.split("\n\n") {
        let suites = stanza
            .lines()
            .find_map(|line| line.strip_prefix("Suites: "));
        let Some(suites) = suites.filter(|all| all.split(' ').any(|suite| suite == codename))
        else {
            continue;
        };
        newer += &stanza.replacen(suites, &RELEASES.join(" "), 1);
        newer += "\n\n";
    }
    newer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_releases_come_from_where_the_own_release_does() {
        let own = [
            (
                "0.list".to_owned(),
                "deb [arch=amd64] http://mirror/debian bookworm main\n\
                 deb http://mirror/debian bookworm-backports main\n"
                    .to_owned(),
            ),
            (
                "1.sources".to_owned(),
                "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm bookworm-backports\n\
                 Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://mirror/security\n\
                 Suites: bookworm-security\nComponents: main\n\n"
                    .to_owned(),
            ),
        ];
        let newer = newer_sources(&own, "bookworm");
        let lines: Vec<_> = newer[0].1.lines().collect();
        assert_eq!(lines.len(), RELEASES.len());
        assert_eq!(lines[2], "deb [arch=amd64] http://mirror/debian forky main");
        assert_eq!(
            newer[1].1,
            "Types: deb\nURIs: http://mirror/debian\nSuites: experimental sid forky trixie\n\
             Components: main\nSigned-By: /k.gpg\n\n"
        );
        assert!(newer_sources(&own[..1], "trixie").is_empty());
    }
}
