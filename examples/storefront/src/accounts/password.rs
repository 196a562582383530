//! Hashes of passwords: Argon2id with OWASP's parameters, which are the library's defaults. It takes tens of
//! milliseconds by design, so that it goes on threads that may block.

use std::sync::OnceLock;

use argon2::password_hash;
use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};

/// A hash that no password has, for names without an account.
static NOBODYS: OnceLock<String> = OnceLock::new();

/// Hashes a password.
///
/// # Errors
/// [`HashError`].
pub(super) async fn hash(password: String) -> Result<String, HashError> {
    tokio::task::spawn_blocking(move || hash_now(password.as_bytes())).await?
}

/// Whether a password has this hash; never without one.
///
/// # Errors
/// [`HashError`].
pub(super) async fn verify(password: String, hash: Option<String>) -> Result<bool, HashError> {
    let verifying = tokio::task::spawn_blocking(move || {
        let nobodys = || {
            let random: [u8; 16] = rand::random();
            let made = hash_now(&random)?;
            Ok::<_, HashError>(NOBODYS.get_or_init(|| made).clone())
        };
        let is_somebodys = hash.is_some();
        let hash = match (hash, NOBODYS.get()) {
            (Some(hash), _) => hash,
            (None, Some(nobodys)) => nobodys.clone(),
            (None, None) => nobodys()?,
        };
        let hash = PasswordHash::new(&hash).map_err(HashError::Stored)?;
        let verified = Argon2::default().verify_password(password.as_bytes(), &hash);
        Ok(verified.is_ok() && is_somebodys)
    });
    verifying.await?
}

fn hash_now(password: &[u8]) -> Result<String, HashError> {
    Ok(Argon2::default().hash_password(password)?.to_string())
}

/// No hash was made, or what is stored is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// The library's reason.
    #[error("Argon2: {0}")]
    Hash(password_hash::Error),
    /// What is stored is no hash.
    #[error("Argon2: {0}")]
    Stored(argon2::password_hash::phc::Error),
    /// The thread ended.
    #[error("the thread ended")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<password_hash::Error> for HashError {
    fn from(error: password_hash::Error) -> Self {
        Self::Hash(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_knows_its_password_and_no_other() {
        let made = hash("teapot".to_owned()).await.unwrap();
        assert!(made.starts_with("$argon2id$"), "{made}");
        assert_ne!(made, hash("teapot".to_owned()).await.unwrap());
        assert!(
            verify("teapot".to_owned(), Some(made.clone()))
                .await
                .unwrap()
        );
        assert!(!verify("teapots".to_owned(), Some(made)).await.unwrap());
        assert!(!verify("teapot".to_owned(), None).await.unwrap());
        assert!(
            verify("teapot".to_owned(), Some("none".to_owned()))
                .await
                .is_err()
        );
    }
}
