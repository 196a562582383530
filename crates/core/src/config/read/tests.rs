use secrecy::ExposeSecret;

use super::*;

fn from_json(json: &str) -> Result<ClientConfig, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn the_three_forms_give_the_same_configuration() {
    let from_url = ClientConfig::from_url(
        "rediss://ann:p%40ss@cache.internal:6380/3?namespace=shop&command_timeout=250ms",
    )
    .unwrap();
    let from_json = from_json(
        r#"{ "host": "cache.internal", "port": 6380, "tls": true, "username": "ann",
             "password": "p@ss", "database": 3, "namespace": "shop", "command_timeout": "250ms" }"#,
    )
    .unwrap();
    let vars = [
        ("REDIS_URL", "rediss://cache.internal:6380"),
        ("REDKIT_USERNAME", "ann"),
        ("REDKIT_PASSWORD", "p@ss"),
        ("REDKIT_DATABASE", "3"),
        ("REDKIT_NAMESPACE", "shop"),
        ("REDKIT_COMMAND_TIMEOUT", "250ms"),
        ("REDKIT_TEST_BACKENDS", "embedded"),
        ("HOME", "/"),
    ];
    let from_env = ClientConfig::try_from(
        Settings::from_vars(None, vars.map(|(n, v)| (n.into(), v.into()))).unwrap(),
    )
    .unwrap();
    for config in [&from_json, &from_env] {
        assert_eq!(format!("{config:?}"), format!("{from_url:?}"));
        assert_eq!(config.password.as_ref().unwrap().expose_secret(), "p@ss");
    }
}

#[test]
fn a_field_beside_the_url_wins_over_the_same_field_in_its_query() {
    let vars = [
        ("REDIS_URL", "redis://h?namespace=from-url&database=1"),
        ("REDKIT_NAMESPACE", "from-env"),
    ];
    let settings = Settings::from_vars(None, vars.map(|(n, v)| (n.into(), v.into())));
    let config = ClientConfig::try_from(settings.unwrap()).unwrap();
    assert_eq!(
        (config.namespace.as_deref(), config.database),
        (Some("from-env"), 1)
    );
}

#[test]
fn a_given_url_takes_no_place_or_credentials_from_another_servers_url() {
    let at = |url: &str, vars: &[(&str, &str)]| {
        let vars = vars.iter().map(|(n, v)| (n.into(), v.into()));
        let settings = Settings::from_vars_at(url, vars.collect::<Vec<_>>()).unwrap();
        settings.into_config(None).unwrap()
    };
    let config = at(
        "redis://other:7000",
        &[
            ("REDIS_URL", "redis://ann:secret@production"),
            ("REDKIT_HOST", "production"),
            ("REDKIT_NAMESPACE", "shop"),
        ],
    );
    assert_eq!(config.endpoint.to_string(), "other:7000");
    assert_eq!(config.namespace.as_deref(), Some("shop"));
    assert!(!config.has_credentials() && config.username.is_none());

    // Those that stand by themselves are for whatever server is named.
    let vars = [("REDKIT_USERNAME", "ann"), ("REDKIT_PASSWORD", "secret")];
    assert!(at("redis://other", &vars).has_credentials());
    let own = at("redis://bob:own@other", &vars);
    assert_eq!(own.username.as_deref(), Some("bob"));
    assert_eq!(own.password.unwrap().expose_secret(), "own");
    let own = at("redis://other?username=bob&password=own", &vars);
    assert_eq!(own.username.as_deref(), Some("bob"));
    assert_eq!(own.password.unwrap().expose_secret(), "own");
    let own = at("redis://other?password=own", &vars);
    assert_eq!(own.username, None, "a user has the password of its own");
    assert_eq!(own.password.unwrap().expose_secret(), "own");
}

#[test]
fn what_a_given_url_says_wins_over_the_environment() {
    let vars = [
        ("REDKIT_DATABASE", "0"),
        ("REDKIT_NAMESPACE", "shop"),
        ("REDKIT_COMMAND_TIMEOUT", "2s"),
        ("REDKIT_TLS", "false"),
        ("REDKIT_SENTINEL_USERNAME", "ann"),
        ("REDKIT_SENTINEL_PASSWORD", "secret"),
    ];
    let at = |url: &str| {
        let vars = vars.iter().map(|(n, v)| (n.into(), v.into()));
        let settings = Settings::from_vars_at(url, vars.collect::<Vec<_>>()).unwrap();
        settings.into_config(None).unwrap()
    };
    let config = at("rediss://host/3?namespace=test");
    assert_eq!(config.database, 3);
    assert_eq!(config.namespace.as_deref(), Some("test"));
    assert_eq!(config.command_timeout.as_secs(), 2);
    assert!(config.tls.is_some() && config.sentinel_username.is_none());
    assert_eq!(at("redis://host").namespace.as_deref(), Some("shop"));
    let config = at("redis-sentinel://host/main");
    assert_eq!(config.sentinel_username.as_deref(), Some("ann"));
    let config = at("redis-sentinel://host/main?sentinel_password=own");
    assert_eq!(config.sentinel_username, None);
    assert_eq!(config.sentinel_password.unwrap().expose_secret(), "own");
}

#[test]
fn a_misspelt_variable_is_refused_and_variables_of_others_are_not() {
    let read = |name: &str| Settings::from_vars(None, [(name.into(), "shop".into())]).map(|_| ());
    let error = read("REDKIT_NAMESPCE").unwrap_err().to_string();
    assert!(error.contains("`REDKIT_NAMESPACE`"), "{error}");
    for name in [
        "REDKIT_COMAND_TIMEOUT",
        "REDKIT_SENTINL_PASSWORD",
        "REDKIT_FOO",
    ] {
        assert!(read(name).is_err(), "{name}");
    }
    for name in [
        "REDKIT_SESSIONS_URL",
        "REDKIT_TEST_BACKENDS",
        "REDKITCHEN",
        "HOME",
    ] {
        assert!(read(name).is_ok(), "{name}");
    }
}

#[test]
fn a_program_in_production_that_has_lost_its_address_does_not_take_this_machine() {
    let read = |vars: &[(&str, &str)]| {
        let vars = vars.iter().map(|(name, value)| (name.into(), value.into()));
        Settings::from_vars(None, vars).unwrap().of_environment()
    };
    let production = ("REDKIT_PROFILE", "production");
    let error = read(&[production]).unwrap_err();
    assert_eq!(error.field(), "url");
    assert!(error.to_string().contains("REDIS_URL"), "{error}");
    for place in [
        ("REDIS_URL", "redis://localhost"),
        ("REDKIT_HOST", "h"),
        ("REDKIT_CLUSTER", "a,b"),
    ] {
        assert!(read(&[production, place]).is_ok(), "{place:?}");
    }
    assert!(read(&[]).is_ok() && read(&[("REDKIT_PROFILE", "development")]).is_ok());
}

#[test]
fn every_variable_of_another_client_is_left_to_it() {
    for client in ["CACHE", "DB", "MAIN", "JOBS", "SESSIONS"] {
        for field in Settings::NAMES {
            let name = format!("REDKIT_{client}_{}", field.to_ascii_uppercase());
            let read = Settings::from_vars(None, [(name.as_str().into(), "shop".into())]);
            assert!(read.is_ok(), "{name}");
        }
    }
}

#[test]
fn variables_that_kubernetes_makes_of_a_service_are_no_settings() {
    for service in ["REDKIT_CACHE", "REDKIT"] {
        let variables = |url: &str| {
            [
                (format!("{url}_URL"), "redis://cache.internal"),
                (format!("{service}_SERVICE_HOST"), "10.3.2.1"),
                (format!("{service}_SERVICE_PORT"), "6379"),
                (format!("{service}_SERVICE_PORT_REDIS"), "6379"),
                (format!("{service}_PORT"), "tcp://10.3.2.1:6379"),
                (format!("{service}_PORT_6379_TCP"), "tcp://10.3.2.1:6379"),
                (format!("{service}_PORT_6379_TCP_PROTO"), "tcp"),
                (format!("{service}_PORT_6379_TCP_PORT"), "6379"),
                (format!("{service}_PORT_6379_TCP_ADDR"), "10.3.2.1"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
        };
        for (client, url) in [(Some("cache"), "REDKIT_CACHE"), (None, "REDKIT")] {
            let settings = Settings::from_vars(client, variables(url)).unwrap();
            let config = settings.into_config(None).unwrap();
            let there = Address {
                host: "cache.internal".to_owned(),
                port: 6379,
            };
            assert_eq!(
                config.endpoint,
                Endpoint::Standalone(there),
                "{service}, {client:?}"
            );
        }
    }
}

#[test]
fn a_client_whose_name_ends_in_service_keeps_its_own_variables() {
    let vars = [
        ("REDKIT_USER_SERVICE_HOST", "db1"),
        ("REDKIT_USER_SERVICE_PORT", "7000"),
    ];
    let vars = vars.map(|(name, value)| (name.into(), value.into()));
    let settings = Settings::from_vars(Some("user-service"), vars).unwrap();
    let there = Address {
        host: "db1".to_owned(),
        port: 7000,
    };
    let config = settings.into_config(None).unwrap();
    assert_eq!(config.endpoint, Endpoint::Standalone(there));
}

#[test]
fn endpoints_of_every_scheme() {
    let endpoint = |url: &str| ClientConfig::from_url(url).unwrap().endpoint;
    let at = |host: &str, port| Address {
        host: host.to_owned(),
        port,
    };
    assert_eq!(endpoint("redis://h"), Endpoint::Standalone(at("h", 6379)));
    assert_eq!(
        endpoint("VALKEY://[::1]:7"),
        Endpoint::Standalone(at("::1", 7))
    );
    assert_eq!(
        endpoint("unix:///run/r.sock"),
        Endpoint::Unix("/run/r.sock".into())
    );
    let embedded = |name: Option<&str>| Endpoint::Embedded {
        name: name.map(str::to_owned),
    };
    assert_eq!(endpoint("embedded://"), embedded(None));
    assert_eq!(endpoint("embedded://shop-1"), embedded(Some("shop-1")));
    assert_eq!(
        endpoint("redis://[fe80::1%eth0]:7"),
        Endpoint::Standalone(at("fe80::1%eth0", 7))
    );
    assert_eq!(
        endpoint("valkey-cluster://a,b:2"),
        Endpoint::Cluster(vec![at("a", 6379), at("b", 2)])
    );
    assert_eq!(
        endpoint("redis-sentinel://a,b:2/main/1"),
        Endpoint::Sentinel {
            sentinels: vec![at("a", 26379), at("b", 2)],
            master: "main".to_owned()
        }
    );
}

#[test]
fn bad_input_names_the_field_and_hides_secrets() {
    let mut wrong = Vec::new();
    for (url, field) in [
        ("hunter2@host", "url"),
        ("http://host", "url"),
        ("redis://", "host"),
        ("redis://:hunter2", "host"),
        ("redis://u:hun/ter2@host", "password"),
        ("redis://u:hunter2@host:port", "port"),
        ("redis://u:hunt?er2@host", "password"),
        ("redis://host?hunter2=1", "url"),
        ("redis://u:hunter2@host:0", "port"),
        ("redis://u:hunter2@[::1", "host"),
        ("redis://a:1,b:2", "url"),
        ("redis://u:hunter2@host/zero", "database"),
        ("redis://u:hunter2@host?comand_timeout=1s", "comand_timeout"),
        (
            "redis://u:hunter2@host?command_timeout=1",
            "command_timeout",
        ),
        (
            "redis://u:hunter2@host?command_timeout=0s",
            "command_timeout",
        ),
        ("redis://hunter2@host", "password"),
        ("redis://host?tls=false&tls_ca_file=x", "tls"),
        ("rediss://host?tls=false", "tls"),
        ("redis://host?host=other", "host"),
        ("redis-sentinel://host", "master"),
        ("redis-cluster://host/1", "database"),
        ("redis://host?retry_attempts=0", "retry_attempts"),
        ("redis://host?max_in_flight=0", "max_in_flight"),
        ("redis://host?client_name=a%20b", "client_name"),
        ("redis://host?namespace=a%7Bb", "namespace"),
        (
            "rediss://host?tls_client_cert_file=x",
            "tls_client_key_file",
        ),
        ("unix://relative", "url"),
        (
            "redis://host?breaker_failure_rate=2",
            "breaker_failure_rate",
        ),
        ("redis://host?breaker_window=x", "breaker_window"),
        ("redis://[::1]6380", "port"),
        ("redis://[::1]garbage", "port"),
        ("redis://[garbage]", "host"),
        ("redis://u:p@ss?hunter2=x@host", "password"),
        ("redis://u:1?hunter2", "url"),
        ("redis://host?=1", "url"),
        ("redis://ho%0ast", "host"),
        ("redis://ho%20st", "host"),
        ("redis://ho%40st", "host"),
        ("redis-sentinel://x:p@a,y:hunter2@b/m", "password"),
        ("redis-cluster://x:p@a,y:hunter2@b", "password"),
        ("redis://x:p@a,y:hunter2@b", "password"),
        ("embedded://u:hunter2@h/9", "url"),
        ("embedded://h/9", "url"),
        ("embedded://?database=9", "database"),
        ("embedded://?password=hunter2", "password"),
        ("redis://host:+7", "port"),
        ("redis://host/+7", "database"),
        (
            "redis://host?sentinel_password=hunter2",
            "sentinel_password",
        ),
        (
            "redis-sentinel://host/main?sentinel_username=hunter2",
            "sentinel_password",
        ),
    ] {
        let shown = match ClientConfig::from_url(url) {
            Ok(config) => format!("taken: {config:?}"),
            Err(error) => format!("`{}` in {error} {error:?}", error.field()),
        };
        if !shown.starts_with(&format!("`{field}` in")) || shown.contains("er2") {
            wrong.push(format!("{url} (`{field}`): {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn serde_rejects_unknown_fields_and_says_what_to_write() {
    assert!(
        from_json(r#"{"hots": "h"}"#)
            .unwrap_err()
            .contains("unknown field `hots`")
    );
    let error = from_json(r#"{"command_timeout": 250}"#).unwrap_err();
    assert!(error.contains("250ms"), "{error}");
    let config = from_json(r#"{"cluster": ["a:1", "b:2"]}"#).unwrap();
    assert_eq!(config.endpoint.to_string(), "a:1,b:2");
    let config = from_json(r#"{"sentinels": "a,b:2", "master": "m"}"#).unwrap();
    assert_eq!(config.endpoint.to_string(), "a:26379,b:2/m");
    let error = from_json(r#"{"host": "localhost:6380"}"#).unwrap_err();
    assert!(error.contains("`port`"), "{error}");
}

#[test]
fn debug_never_shows_the_password_or_the_url() {
    let mut settings = Settings::default();
    settings.set("url", "redis://u:hunter2@h").unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let config = ClientConfig::try_from(settings)
        .unwrap()
        .password("hunter3");
    assert!(!format!("{config:?}").contains("hunter"));
}

#[test]
fn a_client_of_several_reads_its_own_variables() {
    let vars = [
        ("REDIS_URL", "redis://other"),
        ("REDKIT_NAMESPACE", "other"),
        ("REDKIT_USER_SESSIONS_URL", "redis://h/3"),
        ("REDKIT_USER_SESSIONS_NAMESPACE", "shop"),
    ];
    let read = |client, vars: &[(&str, &str)]| {
        let vars = vars.iter().map(|(n, v)| (n.into(), v.into()));
        Settings::from_vars(Some(client), vars)
    };
    let config = read("user-sessions", &vars)
        .unwrap()
        .into_config(None)
        .unwrap();
    assert_eq!(config.endpoint.to_string(), "h:6379");
    assert_eq!(
        (config.database, config.namespace.as_deref()),
        (3, Some("shop"))
    );
    assert!(!read("cache", &vars).unwrap().says_where());
    let error = read("cache", &[("REDKIT_CACHE_NAMESPCE", "x")]).unwrap_err();
    assert!(
        error.to_string().contains("`REDKIT_CACHE_NAMESPACE`"),
        "{error}"
    );
}

#[test]
fn a_url_goes_on_from_a_configuration() {
    let config = ClientConfig::default()
        .namespace("shop")
        .password("p")
        .with_url("redis://h?lazy=true")
        .unwrap();
    assert_eq!(config.endpoint.to_string(), "h:6379");
    assert!(config.lazy && config.password.is_some());
    assert_eq!(config.namespace.as_deref(), Some("shop"));
    let url = "redis-sentinel://h/main?sentinel_password=theirs";
    let config = ClientConfig::from_url(url).unwrap();
    let config = config.with_url("redis-sentinel://other/main").unwrap();
    assert!(config.sentinel_password.is_some());
    let config = config.with_url("redis://h").unwrap();
    assert!(config.sentinel_password.is_none(), "there are no sentinels");
}
