//! [`Program`]: which server, and where it lies on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Error;

/// A server program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Program {
    /// Redis, 7.0 or later.
    Redis,
    /// Valkey, 8.0 or later.
    Valkey,
    /// Redis of the newest series, 8.4 or later.
    Redis8,
    /// Valkey of the newest series, 9.0 or later.
    Valkey9,
}

impl Program {
    /// The executable's name.
    pub fn executable(self) -> &'static str {
        match self {
            Program::Redis | Program::Redis8 => "redis-server",
            Program::Valkey | Program::Valkey9 => "valkey-server",
        }
    }

    /// The environment variable that names the executable.
    pub fn variable(self) -> &'static str {
        match self {
            Program::Redis => "REDKIT_REDIS_SERVER",
            Program::Valkey => "REDKIT_VALKEY_SERVER",
            Program::Redis8 => "REDKIT_REDIS8_SERVER",
            Program::Valkey9 => "REDKIT_VALKEY9_SERVER",
        }
    }

    /// Looks for the executable: what [`Program::variable`] names, what `cargo xtask` has unpacked
    /// under `target/servers`, and for a program without a stated series what is in `PATH`, in this
    /// order.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is in none of them. A variable that names no file is not
    /// passed over.
    pub fn find(self) -> Result<PathBuf, Error> {
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/servers")
            .join(self.folder())
            .join("run");
        // What lies in `PATH` is of an unknown series.
        let path = match self {
            Program::Redis | Program::Valkey => std::env::var_os("PATH").unwrap_or_default(),
            Program::Redis8 | Program::Valkey9 => OsString::new(),
        };
        self.find_in(std::env::var_os(self.variable()), &unpacked, path)
            .ok_or(Error::NotFound {
                program: self.executable(),
                variable: self.variable(),
            })
    }

    fn folder(self) -> &'static str {
        match self {
            Program::Redis => "redis",
            Program::Valkey => "valkey",
            Program::Redis8 => "redis8",
            Program::Valkey9 => "valkey9",
        }
    }

    fn find_in(self, named: Option<OsString>, unpacked: &Path, path: OsString) -> Option<PathBuf> {
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            return Some(PathBuf::from(named)).filter(|named| named.is_file());
        }
        if unpacked.is_file() {
            return Some(unpacked.to_owned());
        }
        std::env::split_paths(&path)
            .map(|folder| folder.join(self.executable()))
            .find(|candidate| candidate.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_then_the_unpacked_then_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            path
        };
        let (named, unpacked) = (file("named"), file("run"));
        let in_path = file("valkey-server");
        let path = folder.path().as_os_str().to_owned();
        let absent = folder.path().join("absent");
        let find = |named: Option<&Path>, unpacked: &Path, path: &OsString| {
            Program::Valkey.find_in(named.map(Into::into), unpacked, path.clone())
        };

        assert_eq!(find(Some(&named), &unpacked, &path), Some(named.clone()));
        assert_eq!(find(None, &unpacked, &path), Some(unpacked.clone()));
        assert_eq!(find(Some(Path::new("")), &absent, &path), Some(in_path));
        assert_eq!(find(None, &absent, &OsString::from("/nowhere")), None);
        // Passing over it would test something else than what was asked for.
        assert_eq!(find(Some(&absent), &unpacked, &path), None);
    }
}
