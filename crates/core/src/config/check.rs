//! The checks of a configuration: of each setting by itself, and of settings that exclude each other.

use std::time::Duration;

use super::{ClientConfig, ConfigError, Endpoint};

/// Beyond a day no timeout here has a use, and deadline arithmetic stays far from overflow.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

pub(super) fn duration(field: &'static str, duration: &Duration) -> Result<(), ConfigError> {
    match *duration {
        Duration::ZERO => Err(ConfigError::new(
            field,
            "it is zero",
            "give a duration such as \"500ms\"",
        )),
        d if d > MAX_DURATION => Err(ConfigError::new(
            field,
            "it is longer than a day",
            "give a shorter duration",
        )),
        _ => Ok(()),
    }
}

pub(super) fn positive(field: &'static str, number: &usize) -> Result<(), ConfigError> {
    match number {
        0 => Err(ConfigError::new(
            field,
            "it is 0, so nothing would ever be sent",
            "give a positive number",
        )),
        _ => Ok(()),
    }
}

pub(super) fn namespace(_: &'static str, namespace: &str) -> Result<(), ConfigError> {
    crate::keys::check_namespace(namespace)
}

pub(super) fn client_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        "it is empty or has spaces or special characters, which servers refuse",
        "use letters, digits, `-` and `_`",
    ))
}

/// Checks the settings that depend on each other, and those of the parts.
pub(super) fn together(config: &ClientConfig) -> Result<(), ConfigError> {
    retry_and_reconnect(config)?;
    credentials(config)?;
    endpoint(config)?;
    if let Some(tls) = &config.tls
        && tls.client_cert_file.is_some() != tls.client_key_file.is_some()
    {
        return Err(ConfigError::new(
            "tls_client_key_file",
            "a client certificate needs both its file and its key's file",
            "give both `tls_client_cert_file` and `tls_client_key_file`, or neither",
        ));
    }
    config.breaker.validate().map_err(|error| {
        ConfigError::new(
            format!("breaker_{}", error.field()),
            error.to_string(),
            "correct that field of the breaker",
        )
    })
}

fn retry_and_reconnect(config: &ClientConfig) -> Result<(), ConfigError> {
    let (retry, reconnect) = (config.retry, config.reconnect);
    duration("reconnect_max_delay", &reconnect.max_delay)?;
    duration("reconnect_min_delay", &reconnect.min_delay)?;
    // No pause between attempts is a choice, and no mistake.
    if !retry.max_delay.is_zero() {
        duration("retry_max_delay", &retry.max_delay)?;
    }
    for (field, min, max) in [
        (
            "reconnect_min_delay",
            reconnect.min_delay,
            reconnect.max_delay,
        ),
        ("retry_min_delay", retry.min_delay, retry.max_delay),
    ] {
        if min > max {
            return Err(ConfigError::new(
                field,
                "it is longer than the maximum",
                "swap the two delays",
            ));
        }
    }
    match retry.max_attempts {
        0 => Err(ConfigError::new(
            "retry_attempts",
            "it is 0, so nothing would ever be sent",
            "give 1 to switch retries off",
        )),
        _ => Ok(()),
    }
}

fn credentials(config: &ClientConfig) -> Result<(), ConfigError> {
    let has_own = config.username.is_some() || config.password.is_some();
    if config.username.is_some() && config.password.is_none() {
        return Err(ConfigError::new(
            "password",
            "a user name is given without a password",
            "give both, or neither",
        ));
    }
    let has_sentinels = matches!(config.endpoint, Endpoint::Sentinel { .. });
    if config.sentinel_username.is_some() && config.sentinel_password.is_none() {
        return Err(ConfigError::new(
            "sentinel_password",
            "a user name for the sentinels is given without a password",
            "give both, or neither",
        ));
    }
    if config.sentinel_password.is_some() && !has_sentinels {
        return Err(ConfigError::new(
            "sentinel_password",
            "credentials for sentinels are given without sentinels",
            "leave them out, or name the sentinels",
        ));
    }
    if config.provider.is_some() && has_own {
        return Err(ConfigError::new(
            "password",
            "credentials are given beside a credential provider",
            "give one of them",
        ));
    }
    Ok(())
}

fn endpoint(config: &ClientConfig) -> Result<(), ConfigError> {
    let is_cluster = matches!(config.endpoint, Endpoint::Cluster(_));
    if config.read_from_replicas && !is_cluster {
        return Err(ConfigError::new(
            "read_from_replicas",
            "only a cluster's replicas are known",
            "leave it out, or connect to a cluster",
        ));
    }
    if is_cluster && config.database != 0 {
        return Err(ConfigError::new(
            "database",
            "a cluster has database 0 only",
            "leave it out and separate data by namespace",
        ));
    }
    if !matches!(config.endpoint, Endpoint::Embedded { .. }) {
        return Ok(());
    }
    let none = |field, problem| {
        let fix = "leave it out: the engine is a part of this process";
        Err(ConfigError::new(field, problem, fix))
    };
    if config.database != 0 {
        return none("database", "the embedded engine has database 0 only");
    }
    if config.password.is_some() || config.provider.is_some() {
        return none("password", "the embedded engine asks for no credentials");
    }
    if config.tls.is_some() {
        return none("tls", "there is no connection to the embedded engine");
    }
    Ok(())
}
