//! [`Book`]: the orders in the database. What several statements do is one transaction that writes from its start, so
//! that units are never promised twice, whichever processes sell.

mod reference;

use std::time::{Duration, SystemTime};

use redkit::lock::Fence;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, Sqlite, Transaction};

use super::basket::Basket;
use super::events::{Event, Happening};
use crate::model::Id;

pub(crate) use reference::Reference;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Placed,
    /// The carrier has the parcel, or is being given it: from here on nothing takes it back.
    Shipping,
    Shipped,
    Cancelled,
}

/// An order as its customer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) reference: Reference,
    pub(crate) account: i64,
    pub(crate) state: State,
    pub(crate) full_name: String,
    pub(crate) address: String,
    pub(crate) total_cents: u64,
    /// Seconds since 1970.
    pub(crate) placed_at: u64,
    pub(crate) lines: Vec<OrderLine>,
}

/// One product of an order, as it was when it was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderLine {
    pub(crate) product: Id,
    pub(crate) name: String,
    pub(crate) price_cents: u32,
    pub(crate) units: u32,
}

/// What a visitor gets for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) reference: Reference,
    pub(crate) total_cents: u64,
    pub(crate) sold: Vec<Sold>,
}

/// A product whose stock an order changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sold {
    pub(crate) product: Id,
    pub(crate) category: Id,
    pub(crate) stock_before: u32,
    pub(crate) stock_after: u32,
}

/// The orders. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pool: SqlitePool,
}

impl Book {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// Places an order: all of its units are taken from the stock, or none. An order of this reference that is there
    /// already is given again, since its process may have died before it could say so.
    ///
    /// # Errors
    /// [`BookError`].
    pub(super) async fn place(
        &self,
        account: i64,
        reference: &Reference,
        basket: &Basket,
        fence: Fence,
    ) -> Result<Receipt, BookError> {
        if basket.is_empty() {
            return Err(BookError::Empty);
        }
        let mut change = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(placed) = placed_before(&mut change, account, reference).await? {
            return Ok(placed);
        }
        let mut sold = Vec::new();
        let mut lines = Vec::new();
        for (product, units) in basket.lines() {
            let row = sqlx::query(
                "UPDATE product SET stock = stock - ?1 WHERE id = ?2 AND stock >= ?1
                 RETURNING name, price_cents, stock, category_id",
            )
            .bind(units)
            .bind(product.as_i64())
            .fetch_optional(&mut *change)
            .await?;
            let Some(row) = row else {
                return Err(out_of_stock(&mut change, product).await?);
            };
            let stock_after: u32 = row.try_get("stock")?;
            sold.push(Sold {
                product,
                category: id(&row, "category_id")?,
                stock_before: stock_after.saturating_add(units),
                stock_after,
            });
            lines.push(OrderLine {
                product,
                name: row.try_get("name")?,
                price_cents: row.try_get("price_cents")?,
                units,
            });
        }
        let total_cents: u64 = lines.iter().map(OrderLine::cents).sum();
        sqlx::query(
            "INSERT INTO purchase (reference, account_id, state, full_name, address, total_cents, fence)
             SELECT ?, id, 'placed', full_name, address, ?, ? FROM account WHERE id = ?",
        )
        .bind(reference.as_str())
        .bind(signed(total_cents))
        .bind(signed(fence.get()))
        .bind(account)
        .execute(&mut *change)
        .await?;
        for line in &lines {
            sqlx::query(
                "INSERT INTO purchase_line (reference, product_id, name, price_cents, units)
                 VALUES (?, ?, ?, ?, ?)",
            )
            .bind(reference.as_str())
            .bind(line.product.as_i64())
            .bind(&line.name)
            .bind(line.price_cents)
            .bind(line.units)
            .execute(&mut *change)
            .await?;
        }
        note(&mut change, reference, Happening::Placed).await?;
        change.commit().await?;
        Ok(Receipt {
            reference: reference.clone(),
            total_cents,
            sold,
        })
    }

    /// Cancels an order that is not on its way, and gives its units back.
    ///
    /// # Errors
    /// [`BookError`].
    pub(super) async fn cancel(
        &self,
        account: i64,
        reference: &Reference,
        fence: Fence,
    ) -> Result<Vec<Sold>, BookError> {
        let mut change = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        match state(&mut change, reference).await? {
            (owner, _) if owner != account => return Err(BookError::NoSuchOrder),
            (_, State::Placed) => {}
            (_, State::Shipping | State::Shipped) => return Err(BookError::OnItsWay),
            (_, State::Cancelled) => return Err(BookError::Cancelled),
        }
        let lines: Vec<(i64, u32)> =
            sqlx::query_as("SELECT product_id, units FROM purchase_line WHERE reference = ?")
                .bind(reference.as_str())
                .fetch_all(&mut *change)
                .await?;
        let mut returned = Vec::new();
        for (product, units) in lines {
            let row = sqlx::query(
                "UPDATE product SET stock = stock + ? WHERE id = ? RETURNING id, category_id, stock",
            )
            .bind(units)
            .bind(product)
            .fetch_one(&mut *change)
            .await?;
            let stock_after: u32 = row.try_get("stock")?;
            returned.push(Sold {
                product: id(&row, "id")?,
                category: id(&row, "category_id")?,
                stock_before: stock_after.saturating_sub(units),
                stock_after,
            });
        }
        move_to(&mut change, reference, State::Placed, "cancelled", fence).await?;
        sqlx::query("DELETE FROM outbox WHERE reference = ?")
            .bind(reference.as_str())
            .execute(&mut *change)
            .await?;
        note(&mut change, reference, Happening::Cancelled).await?;
        change.commit().await?;
        Ok(returned)
    }

    /// Whose an order is, and where it stands.
    ///
    /// # Errors
    /// [`BookError::NoSuchOrder`]; the database's failure.
    pub(super) async fn state(&self, reference: &Reference) -> Result<(i64, State), BookError> {
        let mut reading = self.pool.begin().await?;
        state(&mut reading, reference).await
    }

    /// Whose an order is.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub(super) async fn account_of(&self, reference: &Reference) -> Result<i64, BookError> {
        Ok(self.state(reference).await?.0)
    }

    /// Notes, before the deed, that the parcel is handed to the carrier: nobody cancels the order from here on, also
    /// when this process dies or loses its lock right after.
    ///
    /// # Errors
    /// [`BookError::Overtaken`]; the database's failure.
    pub(super) async fn set_shipping(
        &self,
        reference: &Reference,
        fence: Fence,
    ) -> Result<(), BookError> {
        let mut change = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        move_to(&mut change, reference, State::Placed, "shipping", fence).await?;
        Ok(change.commit().await?)
    }

    /// Notes that the carrier has the parcel. It stands for a call to somebody else's service, which no transaction
    /// of this database takes back, and which knows the reference again.
    ///
    /// # Errors
    /// The database's failure.
    pub(super) async fn hand_over(&self, reference: &Reference) -> Result<(), BookError> {
        sqlx::query("INSERT OR IGNORE INTO parcel (reference) VALUES (?)")
            .bind(reference.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that an order is on its way.
    ///
    /// # Errors
    /// [`BookError::Overtaken`]; the database's failure.
    pub(super) async fn set_shipped(
        &self,
        reference: &Reference,
        fence: Fence,
    ) -> Result<(), BookError> {
        let mut change = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        move_to(&mut change, reference, State::Shipping, "shipped", fence).await?;
        Ok(change.commit().await?)
    }

    /// One order.
    ///
    /// # Errors
    /// [`BookError::NoSuchOrder`]; the database's failure.
    pub(super) async fn order(&self, reference: &Reference) -> Result<Order, BookError> {
        let mut reading = self.pool.begin().await?;
        let row = sqlx::query("SELECT * FROM purchase WHERE reference = ?")
            .bind(reference.as_str())
            .fetch_optional(&mut *reading)
            .await?
            .ok_or(BookError::NoSuchOrder)?;
        let lines = sqlx::query("SELECT * FROM purchase_line WHERE reference = ? ORDER BY name")
            .bind(reference.as_str())
            .fetch_all(&mut *reading)
            .await?;
        let lines = lines.iter().map(|row| {
            Ok(OrderLine {
                product: id(row, "product_id")?,
                name: row.try_get("name")?,
                price_cents: row.try_get("price_cents")?,
                units: row.try_get("units")?,
            })
        });
        Ok(Order {
            lines: lines.collect::<Result<_, BookError>>()?,
            ..order(&row)?
        })
    }

    /// A customer's latest orders, without their lines.
    ///
    /// # Errors
    /// The database's failure.
    pub(crate) async fn orders_of(&self, account: i64) -> Result<Vec<Order>, BookError> {
        let rows = sqlx::query(
            "SELECT * FROM purchase WHERE account_id = ? ORDER BY placed_at DESC, rowid DESC LIMIT 50",
        )
        .bind(account)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(order).collect()
    }

    /// What happened and was not told to everybody yet, since `age` at least.
    ///
    /// # Errors
    /// The database's failure.
    pub(super) async fn untold(&self, age: Duration) -> Result<Vec<Event>, BookError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT reference, happening FROM outbox
             WHERE written_at <= unixepoch() - ? ORDER BY rowid LIMIT 500",
        )
        .bind(signed(age.as_secs()))
        .fetch_all(&self.pool)
        .await?;
        let events = rows.into_iter().map(|(reference, happening)| Event {
            reference: Reference::stored(reference),
            happening: match &*happening {
                "cancelled" => Happening::Cancelled,
                _ => Happening::Placed,
            },
        });
        Ok(events.collect())
    }

    /// Notes that everybody who is to know of an event does.
    ///
    /// # Errors
    /// The database's failure.
    pub(super) async fn done(&self, event: &Event) -> Result<(), BookError> {
        sqlx::query("DELETE FROM outbox WHERE reference = ? AND happening = ?")
            .bind(event.reference.as_str())
            .bind(event.happening.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl OrderLine {
    pub(crate) fn cents(&self) -> u64 {
        u64::from(self.price_cents) * u64::from(self.units)
    }
}

impl Order {
    pub(crate) fn placed_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.placed_at)
    }
}

async fn placed_before(
    change: &mut Transaction<'_, Sqlite>,
    account: i64,
    reference: &Reference,
) -> Result<Option<Receipt>, BookError> {
    let row = sqlx::query("SELECT account_id, total_cents FROM purchase WHERE reference = ?")
        .bind(reference.as_str())
        .fetch_optional(&mut **change)
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<i64, _>("account_id")? != account {
        return Err(BookError::ReferenceTaken);
    }
    Ok(Some(Receipt {
        reference: reference.clone(),
        total_cents: unsigned(row.try_get("total_cents")?),
        sold: Vec::new(),
    }))
}

async fn out_of_stock(
    change: &mut Transaction<'_, Sqlite>,
    product: Id,
) -> Result<BookError, BookError> {
    let found: Option<(String, u32)> =
        sqlx::query_as("SELECT name, stock FROM product WHERE id = ?")
            .bind(product.as_i64())
            .fetch_optional(&mut **change)
            .await?;
    Ok(match found {
        Some((name, left)) => BookError::OutOfStock { name, left },
        None => BookError::NoSuchProduct(product),
    })
}

async fn state(
    reading: &mut Transaction<'_, Sqlite>,
    reference: &Reference,
) -> Result<(i64, State), BookError> {
    let (account, state): (i64, String) =
        sqlx::query_as("SELECT account_id, state FROM purchase WHERE reference = ?")
            .bind(reference.as_str())
            .fetch_optional(&mut **reading)
            .await?
            .ok_or(BookError::NoSuchOrder)?;
    Ok((account, state_of(&state)))
}

/// Moves an order on, unless a later holder of its lock has: then this one's was lost while it worked.
async fn move_to(
    change: &mut Transaction<'_, Sqlite>,
    reference: &Reference,
    from: State,
    state: &str,
    fence: Fence,
) -> Result<(), BookError> {
    // The holder that began to ship goes on with the same fence.
    let moved = sqlx::query(match from {
        State::Shipping => {
            "UPDATE purchase SET state = ?1, fence = ?2
             WHERE reference = ?3 AND state = 'shipping' AND fence <= ?2"
        }
        _ => {
            "UPDATE purchase SET state = ?1, fence = ?2
             WHERE reference = ?3 AND state = 'placed' AND fence < ?2"
        }
    })
    .bind(state)
    .bind(signed(fence.get()))
    .bind(reference.as_str())
    .execute(&mut **change)
    .await?;
    match moved.rows_affected() {
        0 => Err(BookError::Overtaken),
        _ => Ok(()),
    }
}

/// Notes, in the transaction of what happened, that somebody is to be told: so neither is there without the other,
/// whatever becomes of this process or of Redis.
async fn note(
    change: &mut Transaction<'_, Sqlite>,
    reference: &Reference,
    happening: Happening,
) -> Result<(), BookError> {
    sqlx::query("INSERT INTO outbox (reference, happening) VALUES (?, ?)")
        .bind(reference.as_str())
        .bind(happening.as_str())
        .execute(&mut **change)
        .await?;
    Ok(())
}

fn order(row: &SqliteRow) -> Result<Order, BookError> {
    Ok(Order {
        reference: Reference::stored(row.try_get("reference")?),
        account: row.try_get("account_id")?,
        state: state_of(row.try_get("state")?),
        full_name: row.try_get("full_name")?,
        address: row.try_get("address")?,
        total_cents: unsigned(row.try_get("total_cents")?),
        placed_at: unsigned(row.try_get("placed_at")?),
        lines: Vec::new(),
    })
}

/// The table has a check for these words.
fn state_of(word: &str) -> State {
    match word {
        "shipping" => State::Shipping,
        "shipped" => State::Shipped,
        "cancelled" => State::Cancelled,
        _ => State::Placed,
    }
}

fn id(row: &SqliteRow, column: &str) -> Result<Id, BookError> {
    let number: i64 = row.try_get(column)?;
    Id::try_from(number).map_err(|error| BookError::Database(sqlx::Error::Decode(Box::new(error))))
}

/// SQLite's integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    /// There is nothing in the basket.
    #[error("the basket is empty")]
    Empty,
    /// There are fewer units than were ordered.
    #[error("of {name} there are {left} left")]
    OutOfStock {
        /// The product's name.
        name: String,
        /// How many there are.
        left: u32,
    },
    /// A product of the basket is not in the shop.
    #[error("there is no product {0}")]
    NoSuchProduct(Id),
    /// There is no such order, or it is somebody else's.
    #[error("there is no such order")]
    NoSuchOrder,
    /// Another customer has an order of this reference.
    #[error("the reference of the order is used already")]
    ReferenceTaken,
    /// The carrier has it.
    #[error("the order is on its way")]
    OnItsWay,
    /// It was cancelled before.
    #[error("the order is cancelled")]
    Cancelled,
    /// Somebody else has moved the order on while this one was working on it: its lock was lost.
    #[error("the order was moved on by a later holder of its lock")]
    Overtaken,
    /// The database.
    #[error("the orders cannot be read or written")]
    Database(#[from] sqlx::Error),
}
