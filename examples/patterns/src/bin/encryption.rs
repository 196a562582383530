//! Values that Redis cannot read, with a key that is rotated: what the old one wrote is renewed when it is
//! read.
//! `cargo run -p patterns --bin encryption`, with `REDIS_URL` set to use a server.

use redkit::{Codec, EncryptionKey, KeyRing};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:encryption")?;
    // In production from where you keep secrets: `EncryptionKey::from_hex`.
    let (old, new) = (EncryptionKey::generate()?, EncryptionKey::generate()?);
    let before = client.with_codec(Codec::json().encrypt(KeyRing::new(1, old.clone())));
    before.set("card:ann", "4111 1111 1111 1111").await?;

    let ring = KeyRing::new(2, new).with_older(1, old)?;
    let after = client.with_codec(Codec::json().encrypt(ring));
    let card: Option<String> = after.get_renewing("card:ann").await?;
    println!("card: {card:?}");
    match client.get::<String>("card:ann").await {
        Ok(card) => println!("readable: {card:?}"),
        Err(error) => println!("without the key: {error}"),
    }
    // It opens at its own key only.
    let raw: Vec<u8> = client
        .call(redkit::Command::new("GET").key(client.key("card:ann")))
        .await?;
    println!(
        "plain text in Redis: {}",
        raw.windows(4).any(|four| four == b"4111")
    );
    client.shutdown().await;
    Ok(())
}
