//! The customers: their accounts in the database, and their names and addresses in the cache, encrypted.

mod password;

use std::time::Duration;

use redkit::cache::{Cache, Fetched};
use redkit::{Client, Codec};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::cached::Read;
use crate::context::{self, Pattern};

/// The accounts that a new database has. They are for trying out, and the sign-in page names them.
pub(crate) const DEMO: [(&str, &str, bool); 3] = [
    ("ann", "Ann Aldridge", false),
    ("ben", "Ben Brook", false),
    ("olga", "Olga Orlova (staff)", true),
];

/// The password of all of them.
pub(crate) const DEMO_PASSWORD: &str = "teapot-and-two-cups";

const TTL: Duration = Duration::from_secs(3600);

/// An account as a sign-in needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) is_staff: bool,
}

/// What is personal. In Redis it stands encrypted only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) full_name: String,
    pub(crate) address: String,
}

/// The accounts. Clones share everything.
#[derive(Clone)]
pub(crate) struct Accounts {
    pool: SqlitePool,
    profiles: Cache<Profile>,
}

impl Accounts {
    /// The accounts in `pool`, with profiles cached by a codec that encrypts.
    ///
    /// # Errors
    /// When the cache's settings are refused.
    pub(crate) fn new(
        client: &Client,
        codec: Codec,
        pool: SqlitePool,
    ) -> Result<Self, redkit::cache::Error> {
        let profiles = Cache::builder(&client.with_codec(codec), "profiles")
            .ttl(TTL)
            .build()?;
        Ok(Self { pool, profiles })
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(crate) async fn register(
        &self,
        name: &str,
        password: &str,
        profile: &Profile,
    ) -> Result<Account, AccountError> {
        let name = checked(name, password, profile)?;
        let hash = password::hash(password.to_owned()).await?;
        let made = insert(
            &mut *self.pool.acquire().await?,
            &name,
            &hash,
            profile,
            false,
        )
        .await;
        match made {
            Ok(id) => Ok(Account {
                id,
                name,
                is_staff: false,
            }),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(AccountError::Taken)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The account of this name, if the password is its own.
    ///
    /// # Errors
    /// [`AccountError::Database`] or [`AccountError::Password`].
    pub(crate) async fn verify(
        &self,
        name: &str,
        password: &str,
    ) -> Result<Option<Account>, AccountError> {
        let found: Option<(i64, String, String, bool)> =
            sqlx::query_as("SELECT id, name, password, is_staff FROM account WHERE name = ?")
                .bind(name.trim().to_lowercase())
                .fetch_optional(&self.pool)
                .await?;
        let hash = found.as_ref().map(|(_, _, hash, _)| hash.clone());
        // Without an account there is a hash to compare with all the same: how long the answer takes does not tell
        // whether there is one.
        let is_right = password::verify(password.to_owned(), hash).await?;
        Ok(found
            .filter(|_| is_right)
            .map(|(id, name, _, is_staff)| Account { id, name, is_staff }))
    }

    /// A customer's name and address.
    ///
    /// # Errors
    /// [`AccountError::Read`].
    pub(crate) async fn profile(
        &self,
        account: i64,
    ) -> Result<Read<Fetched<Profile>>, AccountError> {
        let pool = self.pool.clone();
        let load = move || async move {
            let (full_name, address) =
                sqlx::query_as("SELECT full_name, address FROM account WHERE id = ?")
                    .bind(account)
                    .fetch_one(&pool)
                    .await?;
            Ok::<_, sqlx::Error>(Profile { full_name, address })
        };
        let read = Read::from(self.profiles.get_or_load(account, load).await?);
        context::note(
            Pattern::Encryption,
            format!(
                "name and address {}, encrypted there",
                read.cache.in_words()
            ),
        );
        Ok(read)
    }

    /// Writes a customer's name and address: the database first, then the cache.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(crate) async fn set_profile(
        &self,
        account: i64,
        profile: Profile,
    ) -> Result<(), AccountError> {
        profile.check()?;
        let pool = self.pool.clone();
        let write = move || async move {
            sqlx::query("UPDATE account SET full_name = ?, address = ? WHERE id = ?")
                .bind(&profile.full_name)
                .bind(&profile.address)
                .bind(account)
                .execute(&pool)
                .await?;
            Ok::<_, sqlx::Error>(profile)
        };
        self.profiles.write_through(account, write).await?;
        context::note(Pattern::Encryption, "profile written through, encrypted");
        Ok(())
    }

    /// The ids of the accounts with these names, or of all of them without any.
    ///
    /// # Errors
    /// The database's failure.
    pub(crate) async fn ids(&self, names: &[String]) -> Result<Vec<i64>, AccountError> {
        let all: Vec<(i64, String)> = sqlx::query_as("SELECT id, name FROM account ORDER BY id")
            .fetch_all(&self.pool)
            .await?;
        let wanted = |name: &String| names.is_empty() || names.contains(name);
        Ok(all
            .into_iter()
            .filter(|(_, name)| wanted(name))
            .map(|(id, _)| id)
            .collect())
    }
}

/// Makes the [demonstration's accounts](DEMO).
///
/// # Errors
/// The database's failure.
pub(crate) async fn insert_demo(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let hash = password::hash(DEMO_PASSWORD.to_owned())
        .await
        .map_err(|error| sqlx::Error::Configuration(Box::new(error)))?;
    for (name, full_name, is_staff) in DEMO {
        let profile = Profile {
            full_name: full_name.to_owned(),
            address: "1 Mill Lane, Little Haven".to_owned(),
        };
        insert(&mut *connection, name, &hash, &profile, is_staff).await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    name: &str,
    hash: &str,
    profile: &Profile,
    is_staff: bool,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO account (name, password, full_name, address, is_staff)
         VALUES (?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(name)
    .bind(hash)
    .bind(&profile.full_name)
    .bind(&profile.address)
    .bind(is_staff)
    .fetch_one(connection)
    .await
}

/// The name as it is stored, if all of it will do.
fn checked(name: &str, password: &str, profile: &Profile) -> Result<String, AccountError> {
    let name = name.trim().to_lowercase();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(2..=32).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(AccountError::Invalid(
            "A user name has 2 to 32 letters, digits, hyphens or underscores.",
        ));
    }
    if !(8..=200).contains(&password.chars().count()) {
        return Err(AccountError::Invalid("A password has 8 to 200 characters."));
    }
    profile.check()?;
    Ok(name)
}

impl Profile {
    fn check(&self) -> Result<(), AccountError> {
        let fits = |text: &str, most| !text.trim().is_empty() && text.chars().count() <= most;
        if !fits(&self.full_name, 100) {
            return Err(AccountError::Invalid("A name has 1 to 100 characters."));
        }
        if !fits(&self.address, 300) {
            return Err(AccountError::Invalid("An address has 1 to 300 characters."));
        }
        Ok(())
    }
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// What was entered will not do.
    #[error("{0}")]
    Invalid(&'static str),
    /// Somebody has the name.
    #[error("the user name is taken")]
    Taken,
    /// The database.
    #[error("the accounts cannot be read or written")]
    Database(#[from] sqlx::Error),
    /// A read through the cache, or a write.
    #[error("the profile cannot be read or written")]
    Read(#[from] redkit::cache::Error),
    /// A hash could not be made, or what is stored is none.
    #[error("the password cannot be hashed")]
    Password(#[from] password::HashError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            full_name: "Ann".to_owned(),
            address: "Here".to_owned(),
        }
    }

    #[test]
    fn names_are_plain_and_small_letters() {
        assert_eq!(
            checked(" Ann-2_x ", "12345678", &profile()).unwrap(),
            "ann-2_x"
        );
        for wrong in ["", "a", "an n", "änn", "a:b", &"x".repeat(33)] {
            assert!(checked(wrong, "12345678", &profile()).is_err(), "{wrong}");
        }
        assert!(checked("ann", "1234567", &profile()).is_err());
        let nowhere = Profile {
            address: "  ".to_owned(),
            ..profile()
        };
        assert!(checked("ann", "12345678", &nowhere).is_err());
    }
}
