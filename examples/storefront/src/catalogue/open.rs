//! Opening a catalogue's database file: made and seeded when it is empty, refused when it belongs
//! to something else, and never overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::Catalogue;
use crate::{accounts, secrets, seed};

/// Marks the file as ours ("RKSF"), so that nobody else's database is ever written to.
const APPLICATION_ID: i32 = 0x524b_5346;

/// The version of the tables below.
const SCHEMA_VERSION: i32 = 3;

const CONNECTIONS: u32 = 4;

/// How long a statement waits for another one's lock, and a reader for a free connection.
const WAIT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE catalogue (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        identity TEXT NOT NULL
    ) STRICT;
    CREATE TABLE category (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE product (
        id INTEGER PRIMARY KEY,
        category_id INTEGER NOT NULL REFERENCES category (id),
        name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        price_cents INTEGER NOT NULL CHECK (price_cents BETWEEN 1 AND 10000000),
        stock INTEGER NOT NULL CHECK (stock BETWEEN 0 AND 4294967295)
    ) STRICT;
    CREATE INDEX product_in_category ON product (category_id, name, id);
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        password TEXT NOT NULL,
        full_name TEXT NOT NULL,
        address TEXT NOT NULL,
        is_staff INTEGER NOT NULL CHECK (is_staff IN (0, 1))
    ) STRICT;
    CREATE TABLE purchase (
        reference TEXT PRIMARY KEY,
        account_id INTEGER NOT NULL REFERENCES account (id),
        state TEXT NOT NULL CHECK (state IN ('placed', 'shipping', 'shipped', 'cancelled')),
        full_name TEXT NOT NULL,
        address TEXT NOT NULL,
        total_cents INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        placed_at INTEGER NOT NULL DEFAULT (unixepoch())
    ) STRICT;
    CREATE INDEX purchase_of_account ON purchase (account_id, placed_at);
    CREATE TABLE purchase_line (
        reference TEXT NOT NULL REFERENCES purchase (reference),
        product_id INTEGER NOT NULL REFERENCES product (id),
        name TEXT NOT NULL,
        price_cents INTEGER NOT NULL,
        units INTEGER NOT NULL CHECK (units > 0),
        PRIMARY KEY (reference, product_id)
    ) STRICT;
    CREATE TABLE parcel (reference TEXT PRIMARY KEY) STRICT;
    CREATE TABLE outbox (
        reference TEXT NOT NULL,
        happening TEXT NOT NULL CHECK (happening IN ('placed', 'cancelled')),
        written_at INTEGER NOT NULL DEFAULT (unixepoch()),
        PRIMARY KEY (reference, happening)
    ) STRICT;
    CREATE TABLE secret (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;
    INSERT INTO catalogue (only_row, identity) VALUES (1, lower(hex(randomblob(4))));
    PRAGMA application_id = 1380668230;
    PRAGMA user_version = 3;";

impl Catalogue {
    /// Opens the database at `path`. A file that does not exist or is empty becomes a catalogue
    /// with the seeded products; one that is a catalogue already is left as it is.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be opened or is not a catalogue.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let fail = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(WAIT);
        let mut connection = options.connect().await.map_err(fail)?;
        let identity = prepare(&mut connection, path).await;
        connection.close().await.map_err(fail)?;
        let identity = identity?;
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(WAIT)
            .connect_with(options)
            .await
            .map_err(fail)?;
        Ok(Self {
            pool,
            identity,
            reads: Arc::default(),
        })
    }
}

/// Why a database file was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The file cannot be opened, read or written as a database.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: sqlx::Error,
    },
    /// The file is a database, but holds something else.
    #[error(
        "the database {} belongs to another program; give --database a path that does not exist yet",
        path.display()
    )]
    NotACatalogue {
        /// The file.
        path: PathBuf,
    },
    /// The file is a catalogue of another version of this program.
    #[error(
        "the catalogue {} has version {found} and this program needs {SCHEMA_VERSION}; give \
         --database another path",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        found: i32,
    },
}

/// Makes sure that the database is a catalogue, and gives its identity. One transaction that
/// writes from its start: of two programs that start on one file, the second finds it seeded.
async fn prepare(connection: &mut SqliteConnection, path: &Path) -> Result<Arc<str>, OpenError> {
    let fail = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let mut change = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(fail)?;
    let (application, version, objects): (i32, i32, i64) = sqlx::query_as(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
    )
    .fetch_one(&mut *change)
    .await
    .map_err(fail)?;
    match (application, version, objects) {
        (0, 0, 0) => {
            sqlx::raw_sql(SCHEMA)
                .execute(&mut *change)
                .await
                .map_err(fail)?;
            seed::insert(&mut change).await.map_err(fail)?;
            secrets::insert(&mut change).await.map_err(fail)?;
            accounts::insert_demo(&mut change).await.map_err(fail)?;
        }
        (APPLICATION_ID, SCHEMA_VERSION, _) => {}
        (APPLICATION_ID, found, _) => {
            return Err(OpenError::Version {
                path: path.to_owned(),
                found,
            });
        }
        _ => {
            return Err(OpenError::NotACatalogue {
                path: path.to_owned(),
            });
        }
    }
    let (identity,): (String,) = sqlx::query_as("SELECT identity FROM catalogue")
        .fetch_one(&mut *change)
        .await
        .map_err(fail)?;
    change.commit().await.map_err(fail)?;
    Ok(identity.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    #[test]
    fn the_schema_carries_the_marks_that_are_checked() {
        assert!(SCHEMA.contains(&format!("application_id = {APPLICATION_ID};")));
        assert!(SCHEMA.contains(&format!("user_version = {SCHEMA_VERSION};")));
    }

    #[tokio::test]
    async fn a_catalogue_is_seeded_once_and_keeps_its_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let id = Id::try_from(5).unwrap();
        let price = "4321.00".parse().unwrap();
        let first = Catalogue::open(&path).await.unwrap();
        first.set_price(id, price).await.unwrap();
        first.close().await;
        let second = Catalogue::open(&path).await.unwrap();
        assert_eq!(second.product(id).await.unwrap().price_cents, price);
        assert_eq!(second.identity(), first.identity());
    }

    #[tokio::test]
    async fn two_that_start_together_seed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let (a, b) = tokio::join!(Catalogue::open(&path), Catalogue::open(&path));
        assert_eq!(a.unwrap().identity(), b.unwrap().identity());
    }

    #[tokio::test]
    async fn other_files_are_refused_and_left_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("notes.txt");
        std::fs::write(&text, "These are my notes. ".repeat(100)).unwrap();
        let error = Catalogue::open(&text).await.unwrap_err();
        assert!(matches!(error, OpenError::Open { .. }), "{error:?}");
        assert_eq!(std::fs::read(&text).unwrap().len(), 2000);

        let other = folder.path().join("other.db");
        let mut connection = SqliteConnectOptions::new()
            .filename(&other)
            .create_if_missing(true)
            .connect()
            .await
            .unwrap();
        sqlx::raw_sql("CREATE TABLE diary (day TEXT)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let before = std::fs::read(&other).unwrap();
        let error = Catalogue::open(&other).await.unwrap_err();
        assert!(
            matches!(error, OpenError::NotACatalogue { .. }),
            "{error:?}"
        );
        assert_eq!(std::fs::read(&other).unwrap(), before);
    }

    #[tokio::test]
    async fn a_catalogue_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        Catalogue::open(&path).await.unwrap().close().await;
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .connect()
            .await
            .unwrap();
        sqlx::raw_sql("PRAGMA user_version = 1")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let error = Catalogue::open(&path).await.unwrap_err();
        assert!(
            matches!(error, OpenError::Version { found: 1, .. }),
            "{error:?}"
        );
    }
}
