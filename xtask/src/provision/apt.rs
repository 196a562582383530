//! Packages from the machine's own Debian or Ubuntu sources, downloaded with a private apt state
//! and unpacked. The system's package lists, packages and services stay as they are, so no
//! privileges are needed either.

use std::path::{Path, PathBuf};

use xshell::{Shell, cmd};

use super::Server;
use super::newer::newer_sources;
use crate::Failure;

/// What a package's libraries need from the machine itself: they belong to its C runtime.
const OF_THE_SYSTEM: &[&str] = &["libc6", "libgcc-s1", "libstdc++6"];

/// How long a step that uses the network may take, for `timeout`.
pub(super) const BOUND: &str = "300";

/// Unpacks the server under `target/servers`.
pub(super) fn unpack(sh: &Shell, server: &Server) -> Result<(), Failure> {
    let apt = PrivateApt::prepare(sh, Sources::OwnRelease)?;
    // An index that fails shows in what is missing afterwards; a third one's fault is no reason.
    if let Err(error) = apt.update() {
        eprintln!("apt-get update: {error}");
    }
    let mut last: Failure = "nothing was tried".into();
    // Backports have a low priority, so that apt prefers an older version elsewhere.
    for suite in ["", apt.backports.as_str()] {
        match apt.unpack_from(server, suite) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What a private apt knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sources {
    /// The machine's release and its backports; what is installed counts as there.
    OwnRelease,
    /// Newer releases only; nothing counts as installed, so that a package comes with all that it needs.
    NewerReleases,
}

/// Unpacks packages, with all that this system lacks for them, under `folder/root`.
pub(super) fn unpack_all(sh: &Shell, folder: &Path, packages: &[&str]) -> Result<(), Failure> {
    let apt = PrivateApt::prepare(sh, Sources::OwnRelease)?;
    if let Err(error) = apt.update() {
        eprintln!("apt-get update: {error}");
    }
    let configuration = &apt.configuration;
    // What apt would fetch, by the system's own list of what is installed. Nothing is installed.
    let uris = cmd!(
        sh,
        "apt-get -c {configuration} -qq --print-uris --no-install-recommends install {packages...}"
    )
    .quiet()
    .read()?;
    let needed: Vec<_> = uris.lines().filter_map(package_of_uri).collect();
    if needed.is_empty() {
        return Err(format!("apt has nothing to fetch for {packages:?}").into());
    }
    let name = folder.file_name().unwrap_or_default();
    let debs = apt.folder.join("debs").join(name);
    sh.remove_path(&debs)?;
    sh.create_dir(&debs)?;
    {
        let _folder = sh.push_dir(&debs);
        cmd!(
            sh,
            "timeout {BOUND} apt-get -c {configuration} -q download {needed...}"
        )
        .run()?;
    }
    // Beside its place, so that an unpacking that was broken off never passes for a whole one.
    let fresh = folder.with_extension("new");
    sh.remove_path(&fresh)?;
    let root = fresh.join("root");
    sh.create_dir(&root)?;
    for deb in sh.read_dir(&debs)? {
        cmd!(sh, "dpkg-deb -x {deb} {root}").quiet().run()?;
    }
    sh.remove_path(&debs)?;
    sh.remove_path(folder)?;
    std::fs::rename(&fresh, folder)?;
    Ok(())
}

/// The package in a line of `--print-uris`: `'http://…' name_version_architecture.deb size hash`.
fn package_of_uri(line: &str) -> Option<&str> {
    let file = line.strip_prefix('\'')?.split_once("' ")?.1;
    let (name, rest) = file.split_once('_')?;
    rest.contains(".deb ").then_some(name)
}

/// apt with state, cache and sources under `target/apt`.
pub(super) struct PrivateApt<'a> {
    pub(super) sh: &'a Shell,
    pub(super) folder: PathBuf,
    pub(super) configuration: PathBuf,
    backports: String,
    /// Keeps two commands from working here at once.
    _lock: std::fs::File,
}

impl<'a> PrivateApt<'a> {
    pub(super) fn prepare(sh: &'a Shell, sources: Sources) -> Result<Self, Failure> {
        for program in ["apt-get", "apt-cache", "dpkg-deb", "timeout"] {
            if cmd!(sh, "{program} --version")
                .quiet()
                .ignore_stdout()
                .run()
                .is_err()
            {
                return Err(format!("this system has no {program}").into());
            }
        }
        let folder = match sources {
            Sources::OwnRelease => "target/apt",
            Sources::NewerReleases => "target/apt/newer",
        };
        let folder = sh.current_dir().join(folder);
        for inner in ["sources", "lists/partial", "cache/archives/partial"] {
            sh.create_dir(folder.join(inner))?;
        }
        let lock = std::fs::File::create(folder.join("lock"))?;
        lock.lock()?;

        let release = sh.read_file("/etc/os-release")?;
        let codename = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .ok_or("/etc/os-release has no VERSION_CODENAME")?
            .trim_matches('"');
        let mut found = own_sources(Path::new("/etc/apt"), codename)?;
        if found.is_empty() {
            return Err(format!("/etc/apt names no source of {codename}").into());
        }
        let mut configuration_text = self::configuration(&folder);
        if sources == Sources::NewerReleases {
            if !release.lines().any(|line| line == "ID=debian") {
                return Err("newer releases are known for Debian only".into());
            }
            found = newer_sources(&found, codename);
            let status = folder.join("status");
            sh.write_file(&status, "")?;
            configuration_text += &format!("Dir::State::status \"{}\";\n", status.display());
        }
        // Emptied first: a source that the machine no longer has must not stay.
        sh.remove_path(folder.join("sources"))?;
        for (name, content) in found {
            sh.write_file(folder.join("sources").join(name), content)?;
        }
        let configuration = folder.join("apt.conf");
        sh.write_file(&configuration, configuration_text)?;
        Ok(Self {
            sh,
            folder,
            configuration,
            backports: format!("{codename}-backports"),
            _lock: lock,
        })
    }

    pub(super) fn update(&self) -> Result<(), Failure> {
        let Self {
            sh, configuration, ..
        } = self;
        Ok(cmd!(sh, "timeout {BOUND} apt-get -c {configuration} -q update").run()?)
    }

    fn unpack_from(&self, server: &Server, suite: &str) -> Result<(), Failure> {
        let Self {
            sh, configuration, ..
        } = self;
        let packages = self.closure(server.executable, suite)?;
        let debs = self.folder.join("debs").join(server.name);
        sh.remove_path(&debs)?;
        sh.create_dir(&debs)?;
        {
            let _folder = sh.push_dir(&debs);
            let release = release_option(suite);
            cmd!(
                sh,
                "timeout {BOUND} apt-get -c {configuration} -q {release...} download {packages...}"
            )
            .run()?;
        }
        let unpacked = put_in_place(sh, server, &debs, &wrapper(server.executable));
        sh.remove_path(&debs)?;
        unpacked
    }

    /// The package with its tools, in which the executable may lie, and their libraries.
    fn closure(&self, package: &str, suite: &str) -> Result<Vec<String>, Failure> {
        let Self {
            sh, configuration, ..
        } = self;
        let mut packages = vec![package.to_owned()];
        let mut next = 0;
        while let Some(package) = packages.get(next).cloned() {
            next += 1;
            if package.starts_with("lib") {
                continue;
            }
            let release = release_option(suite);
            let depends = cmd!(
                sh,
                "apt-cache -c {configuration} {release...} depends {package}"
            )
            .quiet()
            .read()?;
            for needed in needed(&depends) {
                if !packages.iter().any(|package| package == needed) {
                    packages.push(needed.to_owned());
                }
            }
        }
        Ok(packages)
    }
}

/// Unpacks the packages in `debs` as the server's folder, started by the script `run`.
pub(super) fn put_in_place(
    sh: &Shell,
    server: &Server,
    debs: &Path,
    run_script: &str,
) -> Result<(), Failure> {
    // Beside its place, so that a server that is running from there, or an unpacking that was
    // broken off, never meets half a folder.
    let fresh = server.folder(sh).with_extension("new");
    sh.remove_path(&fresh)?;
    let root = fresh.join("root");
    sh.create_dir(&root)?;
    for deb in sh.read_dir(debs)? {
        if deb.extension().is_some_and(|extension| extension == "deb") {
            cmd!(sh, "dpkg-deb -x {deb} {root}").quiet().run()?;
        }
    }
    let run = fresh.join("run");
    sh.write_file(&run, run_script)?;
    cmd!(sh, "chmod +x {run}").quiet().run()?;
    let version = server.version_of(&run)?;
    if version < server.minimum {
        return Err(format!("the newest {} here is {version}", server.executable).into());
    }
    sh.remove_path(server.folder(sh))?;
    std::fs::rename(&fresh, server.folder(sh))?;
    Ok(())
}

fn release_option(suite: &str) -> Vec<String> {
    match suite {
        "" => vec![],
        suite => vec!["-t".to_owned(), suite.to_owned()],
    }
}

/// Passed with `-c`, which apt reads last: proxies and the like that the machine has set stay, and
/// hooks that would touch the system are dropped.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{folder}/sources";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
APT::Sandbox::User "root";
"#
    )
}

/// Runs the executable with the libraries beside it. `exec`, so that the process is the server.
fn wrapper(executable: &str) -> String {
    format!(
        r#"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
for libraries in "$here"/root/usr/lib/*-linux-* "$here"/root/lib/*-linux-*; do
    [ -d "$libraries" ] && LD_LIBRARY_PATH=$libraries${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
done
export LD_LIBRARY_PATH
exec "$here/root/usr/bin/{executable}" "$@"
"#
    )
}

/// The tools and libraries in the output of `apt-cache depends`; of alternatives, the first.
fn needed(depends: &str) -> Vec<&str> {
    let mut needed = Vec::new();
    let mut satisfied = false;
    for line in depends.lines() {
        let Some((kind, name)) = line.trim().split_once(": ") else {
            continue;
        };
        let is_alternative = satisfied;
        satisfied = kind == "|Depends";
        let wanted =
            name.ends_with("-tools") || (name.starts_with("lib") && !OF_THE_SYSTEM.contains(&name));
        if kind.ends_with("Depends") && !kind.starts_with("Pre") && !is_alternative && wanted {
            needed.push(name);
        }
    }
    needed
}

/// The machine's own sources of its release, and its backports from the same place with the same
/// key. Other sources are left out: they have nothing for us, and may be out of reach.
fn own_sources(etc: &Path, codename: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(parts) = std::fs::read_dir(etc.join("sources.list.d")) {
        files.extend(parts.filter_map(|part| Some(part.ok()?.path())));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let (extension, kept) = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => ("list", list_of_release(&text, codename)),
            Some("sources") => ("sources", stanzas_of_release(&text, codename)),
            _ => continue,
        };
        if !kept.is_empty() {
            sources.push((format!("{}.{extension}", sources.len()), kept));
        }
    }
    Ok(sources)
}

/// Whether `suite` is the release or one of its parts; gives what stands for it.
fn suites_for(suite: &str, codename: &str) -> Vec<String> {
    match suite.strip_prefix(codename) {
        Some("") => vec![suite.to_owned(), format!("{suite}-backports")],
        Some("-updates" | "-security") => vec![suite.to_owned()],
        // `-backports` comes with the release itself.
        _ => vec![],
    }
}

/// `deb [options] uri suite component…`, a line each.
fn list_of_release(text: &str, codename: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (format!("[{options}] "), rest),
            None => (String::new(), rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        let components: Vec<_> = words.take_while(|word| !word.starts_with('#')).collect();
        if components.contains(&"main") {
            for suite in suites_for(suite, codename) {
                kept += &format!("deb {options}{uri} {suite} {}\n", components.join(" "));
            }
        }
    }
    kept
}

/// Stanzas of `Field: value`, between empty lines.
fn stanzas_of_release(text: &str, codename: &str) -> String {
    let mut kept = String::new();
    let uncommented: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in uncommented.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (field, value) = line.split_once(':')?;
                field.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let has = |name, word| field(name).is_some_and(|v| v.split_whitespace().any(|w| w == word));
        let suites: Vec<_> = field("Suites")
            .unwrap_or_default()
            .split_whitespace()
            .flat_map(|suite| suites_for(suite, codename))
            .collect();
        if suites.is_empty() || !has("Components", "main") || !has("Types", "deb") {
            continue;
        }
        for line in stanza {
            let name = line
                .split_once(':')
                .map(|(name, _)| name)
                .unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "suites" => kept += &format!("Suites: {}\n", suites.join(" ")),
                "types" => kept += "Types: deb\n",
                _ => kept += &format!("{line}\n"),
            }
        }
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_release_are_kept_with_their_options_and_gain_backports() {
        let text = "# deb http://mirror/debian bookworm main\n\
            deb [signed-by=/k.gpg arch=amd64] http://mirror/debian bookworm main contrib # own\n\
            deb http://mirror/debian bookworm-backports main\n\
            deb http://mirror/security bookworm-security main\n\
            deb-src http://mirror/debian bookworm main\n\
            deb https://elsewhere/linux bookworm stable\n\
            deb https://elsewhere/apt bookworm-pgdg main\n";
        assert_eq!(
            list_of_release(text, "bookworm"),
            "deb [signed-by=/k.gpg arch=amd64] http://mirror/debian bookworm main contrib\n\
             deb [signed-by=/k.gpg arch=amd64] http://mirror/debian bookworm-backports main contrib\n\
             deb http://mirror/security bookworm-security main\n"
        );
    }

    #[test]
    fn stanzas_keep_their_key_and_gain_backports() {
        let text = "Types: deb deb-src\n# a snapshot\nURIs: http://mirror/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By:\n -----BEGIN\n .\n\
            \nTypes: deb\nURIs: https://elsewhere/node\nSuites: nodistro\nComponents: main\n";
        assert_eq!(
            stanzas_of_release(text, "bookworm"),
            "Types: deb\nURIs: http://mirror/debian\n\
             Suites: bookworm bookworm-backports bookworm-updates\nComponents: main\nSigned-By:\n \
             -----BEGIN\n .\n\n"
        );
    }

    #[test]
    fn the_packages_to_fetch_are_read_from_their_addresses() {
        let line = "'http://deb.debian.org/pool/main/c/chromium_1%3a2_amd64.deb' chromium_156.0-1~deb12u1_amd64.deb 78 SHA256:0";
        assert_eq!(package_of_uri(line), Some("chromium"));
        assert_eq!(package_of_uri("Reading package lists..."), None);
    }

    #[test]
    fn libraries_and_tools_are_taken_and_only_the_first_alternative() {
        let depends = "redis-tools\n  PreDepends: init-system-helpers\n  Depends: adduser\n  \
            Depends: libc6\n  Depends: libssl3\n |Depends: libsystemd0\n  Depends: libelogind0\n  \
            Depends: redis-tools\n  Suggests: libruby\n  Breaks: libold\n";
        assert_eq!(needed(depends), ["libssl3", "libsystemd0", "redis-tools"]);
    }
}
