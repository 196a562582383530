//! Decoding of JSON into Lua values, with the error texts of the server's library.

use mlua::{Lua, LuaString, Table, Value};

use super::cjson::DEEPEST;
use super::cjson_settings::Settings;
use super::raise;
use crate::number::parse_hex_f64;

pub(super) fn decode(lua: &Lua, text: &[u8], settings: Settings) -> mlua::Result<Value> {
    let mut parser = Parser {
        lua,
        text,
        at: 0,
        settings,
    };
    let value = parser.value()?;
    let token = parser.next()?;
    match token.kind {
        Kind::End => Ok(value),
        _ => Err(parser.unexpected("the end", &token)),
    }
}

struct Parser<'l, 't> {
    lua: &'l Lua,
    text: &'t [u8],
    at: usize,
    settings: Settings,
}

/// A table that is being read. There is no recursion: values may be nested deeper than the stack
/// of a runtime's thread allows for.
enum Open {
    Array { table: Table, index: i64 },
    Object { table: Table, key: LuaString },
}

impl Open {
    /// How many values it holds.
    fn values(&self) -> usize {
        match self {
            Open::Array { .. } => 1,
            Open::Object { .. } => 2,
        }
    }
}

struct Token {
    kind: Kind,
    /// Where it starts.
    at: usize,
}

enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Wrong(&'static str),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Kind::ObjectBegin => "T_OBJ_BEGIN",
            Kind::ObjectEnd => "T_OBJ_END",
            Kind::ArrayBegin => "T_ARR_BEGIN",
            Kind::ArrayEnd => "T_ARR_END",
            Kind::Colon => "T_COLON",
            Kind::Comma => "T_COMMA",
            Kind::String(_) => "T_STRING",
            Kind::Number(_) => "T_NUMBER",
            Kind::Boolean(_) => "T_BOOLEAN",
            Kind::Null => "T_NULL",
            Kind::End => "T_END",
            Kind::Wrong(what) => what,
        }
    }
}

impl Parser<'_, '_> {
    fn value(&mut self) -> mlua::Result<Value> {
        let mut open = Vec::new();
        loop {
            let token = self.next()?;
            let Some(value) = self.begin(token, &mut open)? else {
                continue;
            };
            if let Some(value) = self.attach(value, &mut open)? {
                return Ok(value);
            }
        }
    }

    /// Reads a complete value, or the beginning of a table up to its first item.
    fn begin(&mut self, token: Token, open: &mut Vec<Open>) -> mlua::Result<Option<Value>> {
        Ok(Some(match token.kind {
            Kind::String(text) => Value::String(self.lua.create_string(text)?),
            Kind::Number(number) => Value::Number(number),
            Kind::Boolean(truth) => Value::Boolean(truth),
            Kind::Null => Value::NULL,
            Kind::ObjectBegin => {
                let table = self.descend(open)?;
                let token = self.next()?;
                if !matches!(token.kind, Kind::ObjectEnd) {
                    let key = self.key(token)?;
                    open.push(Open::Object { table, key });
                    return Ok(None);
                }
                Value::Table(table)
            }
            Kind::ArrayBegin => {
                let table = self.descend(open)?;
                let before = self.at;
                let token = self.next()?;
                if !matches!(token.kind, Kind::ArrayEnd) {
                    self.at = before;
                    open.push(Open::Array { table, index: 1 });
                    return Ok(None);
                }
                Value::Table(table)
            }
            _ => return Err(self.unexpected("value", &token)),
        }))
    }

    /// Puts a value into the table that it belongs to, and tables that it completes into theirs.
    /// Gives the outermost value when it is complete.
    fn attach(&mut self, mut value: Value, open: &mut Vec<Open>) -> mlua::Result<Option<Value>> {
        loop {
            let Some(top) = open.pop() else {
                return Ok(Some(value));
            };
            match top {
                Open::Array { table, index } => {
                    table.raw_set(index, value)?;
                    let token = self.next()?;
                    match token.kind {
                        Kind::ArrayEnd => value = Value::Table(table),
                        Kind::Comma => {
                            let index = index + 1;
                            open.push(Open::Array { table, index });
                            return Ok(None);
                        }
                        _ => return Err(self.unexpected("comma or array end", &token)),
                    }
                }
                Open::Object { table, key } => {
                    table.raw_set(key, value)?;
                    let token = self.next()?;
                    match token.kind {
                        Kind::ObjectEnd => value = Value::Table(table),
                        Kind::Comma => {
                            let token = self.next()?;
                            let key = self.key(token)?;
                            open.push(Open::Object { table, key });
                            return Ok(None);
                        }
                        _ => return Err(self.unexpected("comma or object end", &token)),
                    }
                }
            }
        }
    }

    /// A field's name and the colon after it.
    fn key(&mut self, token: Token) -> mlua::Result<LuaString> {
        let Kind::String(key) = token.kind else {
            return Err(self.unexpected("object key string", &token));
        };
        let token = self.next()?;
        match token.kind {
            Kind::Colon => self.lua.create_string(key),
            _ => Err(self.unexpected("colon", &token)),
        }
    }

    /// Makes a table within those that are open.
    fn descend(&mut self, open: &[Open]) -> mlua::Result<Table> {
        let depth = open.len();
        // Depths up to the default never come near it.
        let is_full = depth > 1_000 && open.iter().map(Open::values).sum::<usize>() >= DEEPEST;
        match depth >= self.settings.decode_max_depth || is_full {
            true => Err(raise::text(
                self.lua,
                &format!(
                    "Found too many nested data structures ({}) at character {}",
                    depth + 1,
                    self.at
                ),
            )),
            false => self.lua.create_table(),
        }
    }

    fn unexpected(&self, expected: &str, token: &Token) -> mlua::Error {
        raise::text(
            self.lua,
            &format!(
                "Expected {expected} but found {} at character {}",
                token.kind.name(),
                token.at + 1
            ),
        )
    }

    fn next(&mut self) -> mlua::Result<Token> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let at = self.at;
        let single = match self.peek() {
            None => Some(Kind::End),
            Some(b'{') => Some(Kind::ObjectBegin),
            Some(b'}') => Some(Kind::ObjectEnd),
            Some(b'[') => Some(Kind::ArrayBegin),
            Some(b']') => Some(Kind::ArrayEnd),
            Some(b':') => Some(Kind::Colon),
            Some(b',') => Some(Kind::Comma),
            Some(_) => None,
        };
        if let Some(kind) = single {
            self.at += usize::from(!matches!(kind, Kind::End));
            return Ok(Token { kind, at });
        }
        let kind = match self.peek() {
            Some(b'"') => return Ok(self.string()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') if self.word(b"true") => Kind::Boolean(true),
            Some(b'f') if self.word(b"false") => Kind::Boolean(false),
            Some(b'n') if self.word(b"null") => Kind::Null,
            _ if self.settings.decode_invalid_numbers && self.is_invalid_number() => self.number(),
            _ => Kind::Wrong("invalid token"),
        };
        Ok(Token { kind, at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let found = self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word));
        if found {
            self.at += word.len();
        }
        found
    }

    fn number(&mut self) -> Kind {
        if !self.settings.decode_invalid_numbers && self.is_invalid_number() {
            return Kind::Wrong("invalid number");
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let parsed = named_number(rest).or_else(|| {
            let text = std::str::from_utf8(rest.get(..number_len(rest))?).ok()?;
            let number = text.parse().ok().or_else(|| parse_hex_f64(text))?;
            Some((text.len(), number))
        });
        if let Some((len, number)) = parsed {
            self.at += len;
            return Kind::Number(number);
        }
        Kind::Wrong("invalid number")
    }

    /// Whether a number begins here that JSON does not have: one with a `+`, hexadecimal, with leading
    /// zeros, infinite, or none at all.
    fn is_invalid_number(&self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let digits = rest.strip_prefix(b"-").unwrap_or(rest);
        match digits {
            _ if rest.starts_with(b"+") => true,
            [b'0', next, ..] => matches!(next, b'x' | b'X' | b'0'..=b'9'),
            _ => is_named(digits, b"inf") || is_named(digits, b"nan"),
        }
    }

    fn string(&mut self) -> Token {
        let start = self.at;
        self.at += 1;
        let mut text = Vec::new();
        let wrong = |what, at| Token {
            kind: Kind::Wrong(what),
            at,
        };
        loop {
            let at = self.at;
            let Some(byte) = self.peek() else {
                return wrong("unexpected end of string", at);
            };
            self.at += 1;
            match byte {
                b'"' => {
                    return Token {
                        kind: Kind::String(text),
                        at: start,
                    };
                }
                b'\\' => {
                    let escape = self.peek();
                    self.at += 1;
                    match escape {
                        Some(c @ (b'"' | b'\\' | b'/')) => text.push(c),
                        Some(b'b') => text.push(0x08),
                        Some(b'f') => text.push(0x0C),
                        Some(b'n') => text.push(b'\n'),
                        Some(b'r') => text.push(b'\r'),
                        Some(b't') => text.push(b'\t'),
                        Some(b'u') => match self.unicode() {
                            Some(c) => {
                                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                            }
                            None => return wrong("invalid unicode escape code", at),
                        },
                        _ => return wrong("invalid escape code", at),
                    }
                }
                byte => text.push(byte),
            }
        }
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if !(0xD800..0xE000).contains(&first) {
            return char::from_u32(first);
        }
        if first >= 0xDC00 || !self.word(b"\\u") {
            return None;
        }
        let second = self.hex4()?;
        let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + low)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

/// Infinity or NaN as C reads them, with their lengths. NaN may have a name in parentheses.
fn named_number(text: &[u8]) -> Option<(usize, f64)> {
    let is_negative = text.starts_with(b"-");
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let name = text.get(sign..)?;
    let (len, number) = if is_named(name, b"infinity") {
        (8, f64::INFINITY)
    } else if is_named(name, b"inf") {
        (3, f64::INFINITY)
    } else if is_named(name, b"nan") {
        let rest = name.get(3..).unwrap_or_default();
        let inside = rest.strip_prefix(b"(").unwrap_or_default();
        let inside = inside
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count();
        match (rest.first(), rest.get(inside + 1)) {
            (Some(b'('), Some(b')')) => (inside + 5, f64::NAN),
            _ => (3, f64::NAN),
        }
    } else {
        return None;
    };
    Some((sign + len, if is_negative { -number } else { number }))
}

fn is_named(text: &[u8], name: &[u8]) -> bool {
    text.get(..name.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(name))
}

/// How many bytes of `text` are a number; the next token begins behind them.
fn number_len(text: &[u8]) -> usize {
    let digits = |from: usize, is: fn(&u8) -> bool| {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|b| is(b)).count()
    };
    let start = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    if let Some([b'0', b'x' | b'X', ..]) = text.get(start..) {
        let end = digits(start + 2, u8::is_ascii_hexdigit);
        if end > start + 2 {
            return end;
        }
    }
    let mut end = digits(start, u8::is_ascii_digit);
    if text.get(end) == Some(&b'.') {
        end = digits(end + 1, u8::is_ascii_digit);
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'-' | b'+')));
        let power = digits(end + 1 + sign, u8::is_ascii_digit);
        if power > end + 1 + sign {
            end = power;
        }
    }
    end
}
