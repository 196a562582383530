//! Wrong addresses, wrong words, missing rights: each ends with a cause and a remedy, and in time.

use std::time::Duration;

use redkit_testkit::{Server, ServerOptions};

use crate::{ended, engine, program, redkit};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_told_with_a_remedy() {
    for args in [
        &["locks", "list"][..],
        &["keys"],
        &["--json", "watch", "--count", "1"],
    ] {
        let done = redkit("redis://:hunter22@127.0.0.1:1", args).await;
        done.failed(1, "no connection to redis://127.0.0.1:1", "host and port");
        assert!(!format!("{done:?}").contains("hunter22"), "{done:?}");
        assert!(done.took < Duration::from_secs(10), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_url_or_setting_is_a_usage_error_that_quotes_no_password() {
    for (url, cause) in [
        ("http://:hunter22@host", "`url`"),
        ("redis://:hunter22@host:99999", "`port`"),
        ("redis://ann:hunt/er22@host", "`password`"),
        ("embedded://", "nothing to see"),
    ] {
        let done = redkit(url, &["locks", "list"]).await;
        done.failed(2, cause, "");
        assert!(!done.err.contains("er22"), "{done:?}");
    }
    let done = redkit(
        "redis://127.0.0.1:1",
        &["--namespace", "a b", "locks", "list"],
    )
    .await;
    done.failed(2, "`namespace`", "docs/configuration.md");
    let done = redkit("redis://127.0.0.1:1", &["locks", "release"]).await;
    assert_eq!(done.code, 2, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_on_the_command_line_takes_no_password_of_another_and_warns_of_its_own() {
    let server = Server::redis(ServerOptions::new().password("hunter22"))
        .await
        .unwrap();
    let address = format!("redis://{}", server.addr());
    // The environment's URL is another server's, and so is its password.
    let mut command = program(&["--url", &address, "locks", "list"]);
    command.env("REDIS_URL", "redis://:hunter22@127.0.0.1:1");
    let done = ended(command).await;
    done.failed(1, "NOAUTH", "REDIS_URL");

    let with_password = format!("redis://:hunter22@{}", server.addr());
    let done = ended(program(&["--url", &with_password, "locks", "list"])).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.err.contains("`ps`") && !done.err.contains("hunter22"),
        "{done:?}"
    );
    let mut command = program(&["--url", &address, "locks", "list"]);
    command.env("REDKIT_PASSWORD", "hunter22");
    assert_eq!(ended(command).await.code, 0);
    let mut command = program(&["locks", "list"]);
    command.env("REDIS_URL", &with_password);
    let done = ended(command).await;
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_and_a_server_that_hangs_end_in_time() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let user = [
        "ACL", "SETUSER", "web", "on", ">secret", "~*", "&*", "+@all", "-scan",
    ];
    server.raw(&user).await.unwrap();
    let url = format!("redis://web:secret@{}", server.addr());
    let done = redkit(&url, &["locks", "list"]).await;
    done.failed(1, "scan", "`redkit doctor`");

    server.stop().unwrap();
    for args in [
        &["topics", "list"][..],
        &["--timeout", "300ms", "sessions", "stores"],
    ] {
        let done = redkit(&server.url(), args).await;
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.took < Duration::from_secs(10), "{done:?}");
    }
    server.cont().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_completions_are_printed_without_a_server() {
    for command in [
        "doctor",
        "watch",
        "keys",
        "locks",
        "limits",
        "sessions",
        "topics",
        "completions",
    ] {
        let done = ended(program(&[command, "--help"])).await;
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.out.contains(&format!("redkit {command}")), "{done:?}");
    }
    let doctor = ended(program(&["doctor", "--help"])).await;
    assert!(doctor.out.contains("Exit status:") && doctor.out.contains("Examples:"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let done = ended(program(&["completions", shell])).await;
        assert!(
            done.code == 0 && done.out.contains("force-release"),
            "{shell}: {done:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_that_nobody_reads_ends_the_program_quietly() {
    let engine = engine().await;
    let mut command = program(&["--json", "watch", "--interval", "100ms"]);
    command
        .env("REDIS_URL", engine.url())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert!(status.unwrap().unwrap().success());
}
