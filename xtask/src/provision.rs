//! Finds the servers that tests and benchmarks need, and provides the missing ones under
//! `target/servers`, without installing, starting or changing anything on the system.

mod apt;
pub(crate) mod chromium;
mod newer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use xshell::Shell;

use crate::Failure;

/// A server program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    /// The folder's name under `target/servers`.
    pub(crate) name: &'static str,
    /// The executable's name, and its package's on systems with apt.
    pub(crate) executable: &'static str,
    /// The environment variable that names the executable.
    pub(crate) variable: &'static str,
    /// What its `--version` begins with: a Valkey may lie there as `redis-server` too.
    banner: &'static str,
    /// The oldest version that will do: for the plain servers the oldest that redkit supports.
    pub(crate) minimum: Version,
    /// From where it is unpacked.
    origin: Origin,
}

/// From where a server is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The machine's own release, or its backports.
    OwnRelease,
    /// A newer release of the distribution, with that release's C library beside it. What lies in `PATH`
    /// is of an unknown series, and does not stand for it.
    NewerRelease,
}

/// Redis, as the distributions have it.
pub(crate) const REDIS: Server = Server {
    name: "redis",
    executable: "redis-server",
    variable: "REDKIT_REDIS_SERVER",
    banner: "Redis server v=",
    minimum: Version(7, 0, 0),
    origin: Origin::OwnRelease,
};

/// Valkey: in Debian 12 from the backports suite.
pub(crate) const VALKEY: Server = Server {
    name: "valkey",
    executable: "valkey-server",
    variable: "REDKIT_VALKEY_SERVER",
    banner: "Valkey server v=",
    minimum: Version(8, 0, 0),
    origin: Origin::OwnRelease,
};

/// Redis of the newest series.
pub(crate) const REDIS_8: Server = Server {
    name: "redis8",
    executable: "redis-server",
    variable: "REDKIT_REDIS8_SERVER",
    banner: "Redis server v=",
    minimum: Version(8, 4, 0),
    origin: Origin::NewerRelease,
};

/// Valkey of the newest series.
pub(crate) const VALKEY_9: Server = Server {
    name: "valkey9",
    executable: "valkey-server",
    variable: "REDKIT_VALKEY9_SERVER",
    banner: "Valkey server v=",
    minimum: Version(9, 0, 0),
    origin: Origin::NewerRelease,
};

/// A server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u16, u16, u16);

/// A server that is there.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
}

impl Server {
    /// Looks for the server where the test kit looks: the variable, `target/servers`, `PATH`.
    ///
    /// # Errors
    /// When the variable names something that is not this server in a sufficient version. That is
    /// never passed over, as the tests would then run on something else than was asked for.
    pub(crate) fn find(&self, sh: &Shell) -> Result<Option<Found>, Failure> {
        if let Some(path) = std::env::var_os(self.variable).filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            return match self.version_of(&path) {
                Ok(version) if version >= self.minimum => Ok(Some(Found { path, version })),
                Ok(version) => Err(format!(
                    "{} names version {version}; redkit needs {} or later",
                    self.variable, self.minimum
                )
                .into()),
                Err(cause) => Err(format!(
                    "{} names {}, which is no {}: {cause}",
                    self.variable,
                    path.display(),
                    self.executable
                )
                .into()),
            };
        }
        let unpacked = self.folder(sh).join("run");
        let in_path = match self.origin {
            Origin::OwnRelease => std::env::var_os("PATH").unwrap_or_default(),
            Origin::NewerRelease => std::ffi::OsString::new(),
        };
        let in_path = std::env::split_paths(&in_path).map(|folder| folder.join(self.executable));
        Ok(std::iter::once(unpacked)
            .chain(in_path)
            .filter(|path| path.is_file())
            .find_map(|path| {
                let version = self.version_of(&path).ok()?;
                (version >= self.minimum).then_some(Found { path, version })
            }))
    }

    /// Finds the server, or provides it.
    ///
    /// # Errors
    /// When it is neither there nor to be had; says what to install.
    pub(crate) fn provide(&self, sh: &Shell) -> Result<Found, Failure> {
        if let Some(found) = self.find(sh)? {
            return Ok(found);
        }
        eprintln!(
            "No {} {} or later here: unpacking it under target/servers/{}.",
            self.executable, self.minimum, self.name
        );
        let unpacked = match self.origin {
            Origin::OwnRelease => apt::unpack(sh, self),
            Origin::NewerRelease => newer::unpack(sh, self),
        };
        unpacked.map_err(|cause| self.how_to_install(&cause))?;
        self.find(sh)?
            .ok_or_else(|| self.how_to_install("what was unpacked does not run").into())
    }

    /// What to do where nothing can be provided.
    pub(crate) fn how_to_install(&self, cause: impl fmt::Display) -> String {
        let Server {
            name,
            executable,
            variable,
            minimum,
            ..
        } = self;
        if self.origin == Origin::NewerRelease {
            return format!(
                "{executable} {minimum} or later could not be provided: {cause}\n\
                 On Debian it is unpacked from a newer release. Elsewhere set {variable} to an executable \
                 of that version."
            );
        }
        let backports = match *self == VALKEY {
            true => " (Debian 12: from bookworm-backports)",
            false => "",
        };
        format!(
            "{executable} {minimum} or later could not be provided: {cause}\n\
             Install it and run this again:\n  \
             Debian, Ubuntu   apt install {executable}{backports}\n  \
             Fedora           dnf install {name}\n  \
             macOS            brew install {name}\n\
             or set {variable} to an executable that you have."
        )
    }

    /// Asks an executable for its version.
    fn version_of(&self, path: &Path) -> Result<Version, String> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        self.version_in(&text).ok_or_else(|| {
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            format!("it says {:?}", String::from_utf8_lossy(&said).trim())
        })
    }

    fn version_in(&self, text: &str) -> Option<Version> {
        Version::parse(text.strip_prefix(self.banner)?)
    }

    fn folder(&self, sh: &Shell) -> PathBuf {
        sh.current_dir().join("target/servers").join(self.name)
    }
}

impl Version {
    /// From `7.0.15 sha=…`.
    fn parse(text: &str) -> Option<Self> {
        let numbers = text.split_whitespace().next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self(next()?, next()?, next().unwrap_or_default()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let redis = REDIS.version_in("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0");
        assert_eq!(redis.map(|v| v.to_string()).as_deref(), Some("7.0.15"));
        let valkey = "Valkey server v=10.1 sha=0";
        assert!(VALKEY.version_in(valkey).unwrap() > VALKEY.minimum);
        assert!(REDIS.version_in(valkey).is_none());
        assert!(REDIS.version_in("Redis server v=6.2.9 sha=0").unwrap() < REDIS.minimum);
        assert!(
            REDIS
                .version_in("error while loading shared libraries")
                .is_none()
        );
    }
}
