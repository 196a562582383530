//! Connection URLs. They are split by hand, because lists of hosts are not standard URLs, and
//! because no error may quote a part that could be a password.

use std::net::Ipv6Addr;
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

const ENCODE: &str =
    "percent-encode it: `?` is %3F, `@` is %40, `/` is %2F, `,` is %2C, `%` is %25";

/// Parses `url`; fields in its query are set on `settings`.
pub(super) fn parse(url: &str, settings: &mut Settings) -> Result<ParsedUrl, ConfigError> {
    let (scheme, rest) = url
        .trim()
        .split_once("://")
        .ok_or_else(|| ConfigError::new("url", "it has no scheme", SCHEMES))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') && !rest.contains('@') {
        return Err(question_mark_in_credentials());
    }
    let kind = scheme.to_ascii_lowercase().replacen("valkey", "redis", 1);
    let mut parsed = match kind.as_str() {
        "embedded" => embedded(rest)?,
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
    parsed.tls = kind.starts_with("rediss");
    apply_query(query, settings)?;
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

fn embedded(rest: &str) -> Result<ParsedUrl, ConfigError> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !rest.bytes().all(is_name) {
        return Err(ConfigError::new(
            "url",
            "the embedded engine has no host, credentials or databases",
            "write embedded:// for an engine of this client's own, or embedded://name (letters, \
             digits, `-`, `_`, `.`) for one that clients share",
        ));
    }
    let name = (!rest.is_empty()).then(|| rest.to_owned());
    Ok(ParsedUrl::of(Endpoint::Embedded { name }))
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
            ENCODE,
        ));
    }
    // The last `@` ends the credentials: one inside a password is most likely not encoded.
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let mut parsed = ParsedUrl::of(Endpoint::Embedded { name: None });
    if let Some(credentials) = credentials {
        // `x:p@a,y:q@b` may be a strange password, or two hosts, of which the first would be lost.
        let after_at = credentials.split_once('@').map_or("", |(_, rest)| rest);
        if after_at.contains(',') {
            return Err(ConfigError::new(
                "password",
                "credentials stand before more than one host, or hold an `@` and a `,`",
                "write them once, before the first host; if they hold these signs, write `@` as \
                 %40 and `,` as %2C",
            ));
        }
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
    let end_of_host = match text.starts_with('[') {
        true => text.find(']').map(|bracket| bracket + 1).ok_or_else(|| {
            ConfigError::new("host", "an IPv6 address lacks its `]`", "write [::1]:6379")
        })?,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(end_of_host);
    let host = host(name)?;
    let port = match port.strip_prefix(':').map(number) {
        None if port.is_empty() => default_port,
        Some(Some(port)) if port != 0 => port,
        _ => {
            return Err(ConfigError::new(
                "port",
                "it is not a number from 1 to 65535",
                "write host:6379, an IPv6 address in brackets, and credentials before an `@`",
            ));
        }
    };
    Ok(Address { host, port })
}

/// Parses a host's name or address, percent-encoded or not: `host`, `[v6]` or `v6`.
pub(super) fn host(text: &str) -> Result<String, ConfigError> {
    let wrong = |problem| {
        Err(ConfigError::new(
            "host",
            problem,
            "write a host name or address",
        ))
    };
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = decode(inner.unwrap_or(text), "host")?;
    if host.is_empty() {
        return wrong("it is empty");
    }
    let is_v6 = host.contains(':') || inner.is_some();
    let (address, zone) = match is_v6 {
        true => host.split_once('%').unwrap_or((&host, "0")),
        false => ("::", host.as_str()),
    };
    if address.parse::<Ipv6Addr>().is_err() {
        return wrong("it is not an IPv6 address");
    }
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/?#@\\[]:,%".contains(c);
    if zone.is_empty() || zone.contains(strange) {
        return wrong("it holds spaces, control characters or signs that no host name has");
    }
    Ok(host)
}

fn database(path: &str) -> Result<Option<u32>, ConfigError> {
    if path.is_empty() {
        return Ok(None);
    }
    number(path).map(Some).ok_or_else(|| {
        ConfigError::new(
            "database",
            "what follows the `/` is not a number",
            "write the database's number, such as /0, or leave it out",
        )
    })
}

/// Digits only: `parse` alone would take a sign, too.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_digits = text.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

fn apply_query(query: &str, settings: &mut Settings) -> Result<(), ConfigError> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, "url")?;
        let is_field = Settings::NAMES.contains(&name.as_str());
        if !is_field && query.contains('@') {
            return Err(question_mark_in_credentials());
        }
        if name.is_empty() {
            return Err(ConfigError::new(
                "url",
                "its query has a value without a name",
                "write ?name=value",
            ));
        }
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

fn question_mark_in_credentials() -> ConfigError {
    ConfigError::new("password", "the user name or password holds a `?`", ENCODE)
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
