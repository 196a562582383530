//! How a setting is read from a text. Serde, a URL's query and the environment all read every value
//! like this, so that they cannot drift apart.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::profile::Profile;
use super::{Address, ConfigError, Driver, url};
use crate::breaker::Window;

/// A setting that may be absent. With serde it takes a text, number, truth value or list of texts.
#[derive(Debug)]
pub(super) struct Setting<T>(Option<T>);

impl<T> Setting<T> {
    /// The value; the setting is absent afterwards.
    pub(super) fn take(&mut self) -> Option<T> {
        self.0.take()
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is set to `value`.
    pub(super) fn is(&self, value: &T) -> bool
    where
        T: PartialEq,
    {
        self.0.as_ref() == Some(value)
    }

    /// Takes over `other` unless this is set.
    pub(super) fn or(&mut self, other: Self) {
        if self.0.is_none() {
            *self = other;
        }
    }
}

impl<T: FromText> Setting<T> {
    /// Sets the setting `name` from a text.
    pub(super) fn read(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let value = T::from_text(text)
            .map_err(|fix| ConfigError::new(name.to_owned(), "its value cannot be read", fix))?;
        self.0 = Some(value);
        Ok(())
    }
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: FromText> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(TextVisitor(PhantomData))
            .map(|value| Self(Some(value)))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<'de, T: FromText> Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a truth value or a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<T, E> {
        self.visit_str(if truth { "true" } else { "false" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        let mut all = Vec::<String>::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        self.visit_str(&all.join(","))
    }
}

/// A value that can be read from a text; the error says what to write instead.
pub(super) trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A host's name or address, without a port.
#[derive(Debug)]
pub(super) struct HostName(pub(super) String);

impl FromText for HostName {
    fn from_text(text: &str) -> Result<Self, String> {
        url::host(text).map(HostName).map_err(|_| {
            "write a host name or an IP address; the port is the field `port`".to_owned()
        })
    }
}

/// `host[:port]`, comma-separated.
#[derive(Debug)]
pub(super) struct Addresses<const DEFAULT_PORT: u16>(pub(super) Vec<Address>);

impl<const DEFAULT_PORT: u16> FromText for Addresses<DEFAULT_PORT> {
    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|address| url::address(address.trim(), DEFAULT_PORT))
            .collect::<Result<_, _>>()
            .map(Addresses)
            .map_err(|error| error.to_string())
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromText for SecretString {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(SecretString::from(text))
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("write a file's path".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }
}

impl FromText for Driver {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "native" => Ok(Driver::Native),
            "fred" => Ok(Driver::Fred),
            _ => Err("write native or fred".to_owned()),
        }
    }
}

impl FromText for Profile {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "production" => Ok(Profile::Production),
            "development" => Ok(Profile::Development),
            _ => Err("write production or development".to_owned()),
        }
    }
}

impl FromText for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("write true or false".to_owned()),
        }
    }
}

impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|_| "write a number with its unit, such as 250ms or 1s".to_owned())
    }
}

/// A number of calls, or a duration with its unit.
impl FromText for Window {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Window::Count)
            .or_else(|_| humantime::parse_duration(text).map(Window::Time))
            .map_err(|_| "write a number of calls such as 100, or a time such as 10s".to_owned())
    }
}

impl FromText for f64 {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "write a share such as 0.5".to_owned())
    }
}

macro_rules! number_from_text {
    ($($type:ty),*) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("write a whole number from 0 to {}", <$type>::MAX))
            }
        }
    )*};
}
number_from_text!(u16, u32, usize);
