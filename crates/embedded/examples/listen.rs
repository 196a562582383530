//! The engine on a loopback port, for `redis-cli` and `redis-benchmark`:
//! `cargo run --release -p redkit-embedded --features listen --example listen -- 6400`.

use std::net::{Ipv4Addr, SocketAddr};

use redkit_embedded::Embedded;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = match std::env::args().nth(1) {
        Some(port) => port.parse()?,
        None => 0,
    };
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut listener = Embedded::new().listen(addr).await?;
    println!("redis-cli -p {}", listener.addr().port());
    listener.ended().await;
    Ok(())
}
