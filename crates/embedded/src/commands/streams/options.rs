//! The options of `XADD` and `XTRIM`.

use redkit_core::ServerError;

use crate::args::{integer, is};
use crate::error;
use crate::value::stream::id::{NewId, StreamId};
use crate::value::stream::{Keep, Trimming};

/// Entries that approximate trimming takes at most when nothing is said.
const LIMIT: usize = 10_000;

/// The options before the id and the fields.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) no_new_stream: bool,
    pub(super) trim: Option<(Keep, Trimming)>,
}

/// The options of `XTRIM`.
pub(super) fn of_trim(args: &[&[u8]]) -> Result<(Keep, Trimming), ServerError> {
    let mut parser = Parser::default();
    let mut rest = args;
    while let [option, more @ ..] = rest {
        rest = parser.trimming(option, more)?.ok_or_else(error::syntax)?;
    }
    match (parser.keep, parser.limit) {
        (None, None | Some(0)) => Err(error::err(
            "syntax error, XTRIM must be called with a trimming strategy",
        )),
        _ => parser.finish()?.ok_or_else(error::syntax),
    }
}

/// The options of `XADD`, the id behind them, and the fields.
pub(super) fn of_add<'a, 'b>(
    args: &'a [&'b [u8]],
) -> Result<(Options, NewId, &'a [&'b [u8]]), ServerError> {
    let mut parser = Parser::default();
    let mut options = Options::default();
    let mut rest = args;
    let mut id = None;
    while let [option, more @ ..] = rest {
        if *option != b"*" {
            if let Some(left) = parser.trimming(option, more)? {
                rest = left;
                continue;
            }
            if is(option, "NOMKSTREAM") {
                options.no_new_stream = true;
                rest = more;
                continue;
            }
        }
        id = Some(NewId::parse(option)?);
        rest = more;
        break;
    }
    options.trim = parser.finish()?;
    let id = id.ok_or_else(|| error::arity("xadd"))?;
    Ok((options, id, rest))
}

#[derive(Default)]
struct Parser {
    keep: Option<Keep>,
    approximate: bool,
    limit: Option<usize>,
}

impl Parser {
    /// Reads one option about trimming and gives the arguments behind it; `None` for another option.
    fn trimming<'a, 'b>(
        &mut self,
        option: &[u8],
        more: &'a [&'b [u8]],
    ) -> Result<Option<&'a [&'b [u8]]>, ServerError> {
        let by_len = is(option, "MAXLEN");
        if (by_len || is(option, "MINID")) && !more.is_empty() {
            if self.keep.is_some() {
                return Err(error::err(
                    "syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.approximate = matches!(more, [mark, _, ..] if *mark == b"~");
            let (amount, rest) = match more {
                [[b'~' | b'='], amount, rest @ ..] => (amount, rest),
                [amount, rest @ ..] => (amount, rest),
                [] => return Err(error::syntax()),
            };
            self.keep = Some(match by_len {
                true => Keep::Newest(natural(amount, "MAXLEN")?),
                false => Keep::From(StreamId::parse(amount, 0)?),
            });
            return Ok(Some(rest));
        }
        match more {
            [amount, rest @ ..] if is(option, "LIMIT") => {
                self.limit = Some(natural(amount, "LIMIT")?);
                Ok(Some(rest))
            }
            _ => Ok(None),
        }
    }

    fn finish(self) -> Result<Option<(Keep, Trimming)>, ServerError> {
        let Some(keep) = self.keep else {
            // A limit of 0 is none, also where it is out of place.
            return match self.limit {
                Some(limit) if limit > 0 => Err(error::err(
                    "syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
                Some(_) => Err(without_tilde()),
                None => Ok(None),
            };
        };
        let trimming = match (self.approximate, self.limit) {
            (true, limit) => Trimming::Nodes {
                limit: Some(limit.unwrap_or(LIMIT)).filter(|&limit| limit > 0),
            },
            (false, None) => Trimming::Exact,
            (false, Some(_)) => return Err(without_tilde()),
        };
        Ok(Some((keep, trimming)))
    }
}

fn without_tilde() -> ServerError {
    error::err("syntax error, LIMIT cannot be used without the special ~ option")
}

fn natural(arg: &[u8], option: &str) -> Result<usize, ServerError> {
    usize::try_from(integer(arg)?)
        .map_err(|_| error::err(format!("The {option} argument must be >= 0.")))
}
