//! The program as it is run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program, ended with its test.
struct App(Child);

impl App {
    fn start() -> (Self, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_app"))
            .arg("--embedded")
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut said)
            .unwrap();
        (Self(child), said.trim().to_owned())
    }

    /// Tells it as systemd, Docker and Kubernetes do.
    #[cfg(unix)]
    async fn ends_when_it_is_told_to(&mut self) {
        let kill = format!("kill -TERM {}", self.0.id());
        let told = Command::new("sh").args(["-c", &kill]).status();
        assert!(told.unwrap().success());
        let ended = async {
            loop {
                match self.0.try_wait().unwrap() {
                    Some(status) => break status,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(60), ended).await;
        let status = status.expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_knows_its_visitors_caches_limits_and_says_how_it_is() {
    let (_app, address) = App::start();
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let get = |path: &str| http.get(format!("{address}{path}")).send();

    let health = get("/health/ready").await.unwrap();
    assert_eq!(health.status(), 200);
    let first = get("/teapots/7").await.unwrap().text().await.unwrap();
    let second = get("/teapots/7").await.unwrap().text().await.unwrap();
    assert_eq!(first, "teapot number 7 (Loaded)\n");
    assert_eq!(second, "teapot number 7 (Redis)\n");

    let hello = get("/").await.unwrap();
    let cookie = |answer: &reqwest::Response| {
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(set.starts_with("__Host-id="), "{set}");
        set.split(';').next().unwrap().to_owned()
    };
    let stranger = cookie(&hello);
    assert_eq!(hello.text().await.unwrap(), "hello stranger, visit 1\n");
    let welcome = http
        .post(format!("{address}/sign-in/ann"))
        .header("cookie", &stranger)
        .send()
        .await
        .unwrap();
    let ann = cookie(&welcome);
    assert_ne!(ann, stranger);
    let hello = http
        .get(&address)
        .header("cookie", &ann)
        .send()
        .await
        .unwrap();
    assert_eq!(hello.text().await.unwrap(), "hello ann, visit 2\n");

    for _ in 0..60 {
        let answer = get("/teapots/7").await.unwrap();
        if answer.status() == 429 {
            assert!(answer.headers().contains_key("retry-after"));
            // The health check is not limited.
            assert_eq!(get("/health/ready").await.unwrap().status(), 200);
            return;
        }
    }
    panic!("nothing is limited");
}

#[cfg(unix)]
#[tokio::test]
async fn it_ends_as_it_should_when_it_is_told_to() {
    let (mut app, address) = App::start();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let health = http.get(format!("{address}/health/ready")).send().await;
    assert_eq!(health.unwrap().status(), 200);
    app.ends_when_it_is_told_to().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_request_that_never_comes_whole_does_not_hold_the_end_up() {
    use std::io::Write;

    let (mut app, address) = App::start();
    let mut slow = std::net::TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        .unwrap();
    // Connections are taken in their order.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let health = http.get(format!("{address}/health/ready")).send().await;
    assert_eq!(health.unwrap().status(), 200);
    app.ends_when_it_is_told_to().await;
    drop(slow);
}
