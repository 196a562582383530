//! The backends that the suites know, by the names that they have there.

use crate::Failure;
use crate::provision::{REDIS, REDIS_8, Server, VALKEY, VALKEY_9};

/// A backend of the test kit's `BackendKind`.
#[derive(Debug)]
pub(crate) struct Backend {
    /// The name in `REDKIT_TEST_BACKENDS`, which its tests have too.
    pub(crate) name: &'static str,
    /// The server that it needs.
    pub(crate) server: Option<&'static Server>,
    /// How its servers are laid out.
    pub(crate) topology: &'static str,
    /// Through what they are reached.
    pub(crate) driver: &'static str,
    /// Why `cargo xtask test` leaves it out.
    pub(crate) left_out: Option<&'static str>,
}

/// All of them.
pub(crate) const BACKENDS: &[Backend] = &[
    Backend {
        name: "embedded",
        server: None,
        topology: "in the process",
        driver: "none",
        left_out: None,
    },
    Backend {
        name: "redis",
        server: Some(&REDIS),
        topology: "standalone",
        driver: "native",
        left_out: None,
    },
    Backend {
        name: "valkey",
        server: Some(&VALKEY),
        topology: "standalone",
        driver: "native",
        left_out: None,
    },
    Backend {
        name: "redis8",
        server: Some(&REDIS_8),
        topology: "standalone",
        driver: "native",
        left_out: Some("`redis` runs the same on an older version; the matrix has both"),
    },
    Backend {
        name: "valkey9",
        server: Some(&VALKEY_9),
        topology: "standalone",
        driver: "native",
        left_out: Some("`valkey` runs the same on an older version; the matrix has both"),
    },
    Backend {
        name: "tls",
        server: Some(&REDIS),
        topology: "standalone, TLS",
        driver: "native",
        left_out: None,
    },
    Backend {
        name: "cluster",
        server: Some(&REDIS),
        topology: "cluster",
        driver: "native",
        left_out: None,
    },
    Backend {
        name: "valkey_cluster",
        server: Some(&VALKEY),
        topology: "cluster",
        driver: "native",
        left_out: Some("`cluster` runs the same on Redis; the matrix has both"),
    },
    Backend {
        name: "sentinel",
        server: Some(&REDIS),
        topology: "sentinel",
        driver: "native",
        left_out: None,
    },
    Backend {
        name: "fred",
        server: Some(&REDIS),
        topology: "standalone",
        driver: "fred",
        left_out: None,
    },
    Backend {
        name: "fred_sentinel",
        server: Some(&REDIS),
        topology: "sentinel",
        driver: "fred",
        left_out: Some("`fred` and `sentinel` each run; the matrix has both together"),
    },
];

/// The backends of a list with commas; with none, those that `cargo xtask test` does not leave out.
///
/// # Errors
/// When the list names an unknown one, or none.
pub(crate) fn chosen(list: Option<&str>) -> Result<Vec<&'static Backend>, Failure> {
    let Some(list) = list else {
        let all = BACKENDS.iter();
        return Ok(all.filter(|backend| backend.left_out.is_none()).collect());
    };
    let names = list.split(',').map(str::trim);
    let named: Vec<_> = names
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut all = BACKENDS.iter();
            all.find(|backend| backend.name == name)
                .ok_or_else(|| format!("no backend `{name}`; there are {}", names_of(BACKENDS)))
        })
        .collect::<Result<_, _>>()?;
    match named.is_empty() {
        true => Err(format!("no backend is named; there are {}", names_of(BACKENDS)).into()),
        false => Ok(named),
    }
}

/// The servers that these backends need, each once.
pub(crate) fn servers(backends: &[&'static Backend]) -> Vec<&'static Server> {
    let mut servers: Vec<&Server> = Vec::new();
    for server in backends.iter().filter_map(|backend| backend.server) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// Their names, as a list with commas.
pub(crate) fn names_of<'a>(backends: impl IntoIterator<Item = &'a Backend>) -> String {
    let names: Vec<_> = backends.into_iter().map(|backend| backend.name).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_followed_and_unknown_backends_are_refused() {
        let of = |list| chosen(Some(list)).map(|found| names_of(found.iter().copied()));
        assert_eq!(of(" tls, cluster,").unwrap(), "tls,cluster");
        assert!(of("reddis").unwrap_err().to_string().contains("`reddis`"));
        assert!(of(" , ").is_err());
    }

    #[test]
    fn without_a_list_no_server_of_the_newest_series_is_demanded() {
        let names = servers(&chosen(None).unwrap());
        let names: Vec<_> = names.iter().map(|server| server.name).collect();
        assert_eq!(names, ["redis", "valkey"]);
    }

    #[test]
    fn each_server_is_provided_once() {
        let all: Vec<_> = BACKENDS.iter().collect();
        let names: Vec<_> = servers(&all).iter().map(|server| server.name).collect();
        assert_eq!(names, ["redis", "valkey", "redis8", "valkey9"]);
    }
}
