//! The shop's secrets: what session ids are hashed with, and what encrypts personal data in Redis. They stand in the
//! database, so that all processes of one shop have the same ones and Redis has none of them. A shop in earnest gets
//! them from where it keeps secrets.

use std::fmt::Write as _;

use redkit::session::SessionSecrets;
use redkit::{Codec, ConfigError, EncryptionKey, KeyRing};
use secrecy::SecretString;
use sqlx::sqlite::{SqliteConnection, SqlitePool};

const NAMES: [&str; 4] = [
    "session-buckets",
    "session-pepper",
    "personal-data",
    "dashboard-commands",
];

/// Makes the secrets of a new database.
///
/// # Errors
/// The database's failure.
pub(crate) async fn insert(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for name in NAMES {
        let value: [u8; 32] = rand::random();
        sqlx::query("INSERT INTO secret (name, value) VALUES (?, ?)")
            .bind(name)
            .bind(&value[..])
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The secrets in use.
pub(crate) struct Secrets {
    pub(crate) sessions: SessionSecrets,
    /// JSON, encrypted.
    pub(crate) personal: Codec,
    /// Signs what one process's dashboard asks of another.
    pub(crate) commands: SecretString,
}

impl Secrets {
    /// Reads them.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub(crate) async fn read(pool: &SqlitePool) -> Result<Self, SecretsError> {
        let mut values = Vec::new();
        for name in NAMES {
            let value: Vec<u8> = sqlx::query_scalar("SELECT value FROM secret WHERE name = ?")
                .bind(name)
                .fetch_one(pool)
                .await?;
            let value: [u8; 32] = value.try_into().map_err(|_| SecretsError::Length(name))?;
            values.push(value);
        }
        let [buckets, pepper, personal, commands] = values[..] else {
            return Err(SecretsError::Length("secret"));
        };
        let keys = KeyRing::new(1, EncryptionKey::from_bytes(personal));
        Ok(Self {
            sessions: SessionSecrets::new(buckets.to_vec(), 1, pepper.to_vec())?,
            personal: Codec::json().encrypt(keys),
            commands: as_text(&commands),
        })
    }
}

/// The secret in hexadecimal digits.
fn as_text(secret: &[u8; 32]) -> SecretString {
    let mut text = String::with_capacity(64);
    for byte in secret {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    /// The database.
    #[error("the secrets cannot be read")]
    Database(#[from] sqlx::Error),
    /// One of them is not 32 bytes.
    #[error("the secret `{0}` is not 32 bytes")]
    Length(&'static str),
    /// The toolkit refuses them.
    #[error("a secret cannot be used")]
    Refused(#[from] ConfigError),
}
