//! Several servers by name. `cargo run -p patterns --bin clients`, with `REDKIT_CACHE_URL` and
//! `REDKIT_SESSIONS_URL` set to use servers.

use std::time::Duration;

use redkit::ClientConfig;

redkit::clients! {
    /// A misspelt name does not compile.
    struct Servers {
        /// May lose what it has.
        cache,
        /// Must not.
        sessions,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `Servers::from_env()` alone, where the variables have to be set.
    let servers = Servers::connect(|name| {
        let variable = format!("REDKIT_{}_URL", name.to_uppercase());
        match std::env::var_os(variable) {
            Some(_) => ClientConfig::from_env_of(name),
            // Clients of one name share an engine, also with other parts of the program.
            None => ClientConfig::development().with_url(&format!("embedded://{name}")),
        }
    })
    .await?;

    let hour = Duration::from_secs(3600);
    servers.sessions.set("session:1", "ann").ttl(hour).await?;
    let found: Option<String> = servers.sessions.get("session:1").await?;
    println!("at the sessions' server: {found:?}");
    let found: Option<String> = servers.cache.get("session:1").await?;
    println!("at the cache's:          {found:?}");

    servers.shutdown().await;
    Ok(())
}
