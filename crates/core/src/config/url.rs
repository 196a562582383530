//! Connection URLs. They are split by hand, because lists of hosts are not standard URLs, and
//! because no error may quote a part that could be a password.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::{Address, ConfigError, Endpoint, Settings};

/// What a URL says, apart from its query, which goes into the settings.
#[derive(Debug)]
pub(super) struct ParsedUrl {
    pub(super) endpoint: Endpoint,
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) database: Option<u32>,
}

const SCHEMES: &str = "write redis://host:port/db, rediss:// for TLS, unix:///path, \
    redis-cluster://, redis-sentinel://…/master or embedded:// (or valkey for redis)";

/// Parses `url`; fields in its query are set on `settings`.
pub(super) fn parse(url: &str, settings: &mut Settings) -> Result<ParsedUrl, ConfigError> {
    let (scheme, rest) = url
        .trim()
        .split_once("://")
        .ok_or_else(|| ConfigError::new("url", "it has no scheme", SCHEMES))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') && !rest.contains('@') {
        return Err(ConfigError::new(
            "password",
            "the user name or password holds a `?`",
            "percent-encode it: `?` is %3F, `@` is %40, `/` is %2F",
        ));
    }
    apply_query(query, settings)?;
    let kind = scheme.to_ascii_lowercase().replacen("valkey", "redis", 1);
    let tls = kind.starts_with("rediss");
    let mut parsed = match kind.as_str() {
        "embedded" => ParsedUrl::of(Endpoint::Embedded),
        "unix" | "redis+unix" => {
            if !rest.starts_with('/') {
                return Err(ConfigError::new(
                    "url",
                    "a unix socket needs an absolute path",
                    "write unix:///path/to/socket",
                ));
            }
            ParsedUrl::of(Endpoint::Unix(PathBuf::from(decode(rest, "url")?)))
        }
        "redis" | "rediss" => standalone(rest)?,
        "redis-cluster" | "rediss-cluster" => cluster(rest)?,
        "redis-sentinel" | "rediss-sentinel" => sentinel(rest)?,
        _ => return Err(ConfigError::new("url", "its scheme is unknown", SCHEMES)),
    };
    parsed.tls = tls;
    Ok(parsed)
}

impl ParsedUrl {
    pub(super) fn of(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            tls: false,
            username: None,
            password: None,
            database: None,
        }
    }
}

fn standalone(rest: &str) -> Result<ParsedUrl, ConfigError> {
    let (mut parsed, hosts, path) = authority(rest, 6379)?;
    let [address] = <[Address; 1]>::try_from(hosts).map_err(|_| {
        ConfigError::new(
            "url",
            "it names several hosts",
            "use redis-cluster:// or redis-sentinel:// for several",
        )
    })?;
    parsed.endpoint = Endpoint::Standalone(address);
    parsed.database = database(path)?;
    Ok(parsed)
}

fn cluster(rest: &str) -> Result<ParsedUrl, ConfigError> {
    let (mut parsed, hosts, path) = authority(rest, 6379)?;
    parsed.endpoint = Endpoint::Cluster(hosts);
    parsed.database = database(path)?;
    Ok(parsed)
}

fn sentinel(rest: &str) -> Result<ParsedUrl, ConfigError> {
    let (mut parsed, sentinels, path) = authority(rest, 26379)?;
    let (master, path) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() {
        return Err(ConfigError::new(
            "master",
            "the URL does not name the master",
            "write redis-sentinel://host:26379/name-of-the-master",
        ));
    }
    parsed.endpoint = Endpoint::Sentinel {
        sentinels,
        master: decode(master, "master")?,
    };
    parsed.database = database(path)?;
    Ok(parsed)
}

/// Splits `[user[:password]@]host[:port][,host…][/path]`.
fn authority(rest: &str, port: u16) -> Result<(ParsedUrl, Vec<Address>, &str), ConfigError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') {
        return Err(ConfigError::new(
            "password",
            "the user name or password holds a `/`",
            "percent-encode it: `/` is %2F, `@` is %40, `?` is %3F",
        ));
    }
    // The last `@` ends the credentials: one inside a password is most likely not encoded.
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let mut parsed = ParsedUrl::of(Endpoint::Embedded);
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        parsed.username = Some(decode(user, "username")?).filter(|user| !user.is_empty());
        parsed.password = password
            .map(|p| decode(p, "password").map(SecretString::from))
            .transpose()?;
    }
    let hosts = hosts
        .split(',')
        .map(|host| address(host, port))
        .collect::<Result<_, _>>()?;
    Ok((parsed, hosts, path.trim_end_matches('/')))
}

/// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn address(text: &str, default_port: u16) -> Result<Address, ConfigError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(|| {
                ConfigError::new("host", "an IPv6 address lacks its `]`", "write [::1]:6379")
            })?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(ConfigError::new(
            "host",
            "it is empty",
            "write a host name or address",
        ));
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ConfigError::new(
            "host",
            "it holds spaces or control characters",
            "write a host name or address",
        ));
    }
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
            ConfigError::new(
                "port",
                "it is not a number from 1 to 65535",
                "write host:6379, an IPv6 address in brackets, and credentials before an `@`",
            )
        })?,
    };
    Ok(Address {
        host: decode(host, "host")?,
        port,
    })
}

fn database(path: &str) -> Result<Option<u32>, ConfigError> {
    if path.is_empty() {
        return Ok(None);
    }
    path.parse().map(Some).map_err(|_| {
        ConfigError::new(
            "database",
            "what follows the `/` is not a number",
            "write the database's number, such as /0, or leave it out",
        )
    })
}

fn apply_query(query: &str, settings: &mut Settings) -> Result<(), ConfigError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, "url")?;
        if name == "url" {
            return Err(ConfigError::new(
                "url",
                "its query names `url` again",
                "take it out",
            ));
        }
        settings.set(&name, &decode(value, "url")?)?;
    }
    Ok(())
}

fn decode(text: &str, field: &'static str) -> Result<String, ConfigError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| {
            ConfigError::new(
                field,
                "its percent-encoding is not UTF-8",
                "encode the text as UTF-8",
            )
        })
}
