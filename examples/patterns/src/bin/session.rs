//! A session from sign-in to sign-out. `cargo run -p patterns --bin session`, with `REDIS_URL` set to use a
//! server.

use redkit::session::{SessionSecrets, SessionStore, SignIn};
use secrecy::ExposeSecret;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url)
        .await?
        .with_namespace("patterns:session")?;
    // Yours are random, and come from where you keep secrets.
    let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32])?;
    let sessions = SessionStore::builder(&client, "web", secrets).build()?;

    // A visitor fills a cart, and signs in: a new id, the cart kept.
    let mut session = sessions.start()?;
    session.insert("cart", &["teapot"])?;
    session.commit().await?;
    session
        .sign_in(SignIn::new("ann").device("Firefox on Linux"))
        .await?;
    let cookie = session.id().expose();

    // Two requests at once change different entries: both changes stay.
    let mut one = sessions
        .load(cookie.expose_secret())
        .await?
        .ok_or("the session ended")?;
    let mut other = sessions
        .load(cookie.expose_secret())
        .await?
        .ok_or("the session ended")?;
    one.insert("theme", "dark")?;
    other.insert("cart", &["teapot", "cup"])?;
    one.commit().await?;
    other.commit().await?;
    let session = sessions
        .load(cookie.expose_secret())
        .await?
        .ok_or("the session ended")?;
    let (cart, theme) = (
        session.get::<Vec<String>>("cart")?,
        session.get::<String>("theme")?,
    );
    println!("cart {cart:?}, theme {theme:?}");

    for device in sessions.sessions_of("ann").await? {
        println!("signed in with {:?}", device.device);
    }
    sessions.revoke_all("ann").await?;
    let after = sessions.load(cookie.expose_secret()).await?;
    println!("after the sign-out everywhere: {}", after.is_some());
    client.shutdown().await;
    Ok(())
}
