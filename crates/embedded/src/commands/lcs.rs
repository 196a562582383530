//! `LCS`: the longest common subsequence of two strings.

use bytes::Bytes;
use redkit_core::Value;

use super::{Spec, int, read};
use crate::args::{integer, is};
use crate::error::{self, Reply};
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[read("LCS", -3, lcs)];

/// Cells of the table beyond which the strings are refused: it takes four bytes for each.
const MOST_CELLS: usize = 64 * 1024 * 1024;

#[derive(Default)]
struct Options {
    len: bool,
    ranges: bool,
    with_lengths: bool,
    shortest: i64,
}

fn lcs(state: &mut State, args: &[&[u8]]) -> Reply {
    let [a, b, rest @ ..] = args else {
        return Err(error::syntax());
    };
    let mut fetch = |key: &[u8]| {
        let value = state.db.view::<Bytes>(key);
        let value = value.map(|value| value.cloned().unwrap_or_default());
        value.map_err(|_| error::err("The specified keys must contain string values"))
    };
    let (a, b) = (fetch(a)?, fetch(b)?);
    let mut options = Options::default();
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        if is(option, "LEN") {
            options.len = true;
        } else if is(option, "IDX") {
            options.ranges = true;
        } else if is(option, "WITHMATCHLEN") {
            options.with_lengths = true;
        } else if is(option, "MINMATCHLEN")
            && let Some(shortest) = rest.next()
        {
            options.shortest = integer(shortest)?.max(0);
        } else {
            return Err(error::syntax());
        }
    }
    if options.len && options.ranges {
        return Err(error::err(
            "If you want both the length and indexes, please just use IDX.",
        ));
    }
    let table = Table::fill(&a, &b).ok_or_else(|| {
        error::err("Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    })?;
    let len = table.at(a.len(), b.len());
    if options.len {
        return Ok(Value::Int(len.into()));
    }
    let (common, ranges) = table.walk(&a, &b, &options);
    Ok(match options.ranges {
        false => Value::Bulk(Bytes::from(common)),
        true => Value::Map(vec![
            (Value::bulk("matches"), Value::Array(ranges)),
            (Value::bulk("len"), Value::Int(len.into())),
        ]),
    })
}

/// The lengths for all pairs of beginnings.
struct Table {
    lens: Vec<u32>,
    width: usize,
}

impl Table {
    fn fill(a: &[u8], b: &[u8]) -> Option<Self> {
        let width = b.len() + 1;
        let cells = width
            .checked_mul(a.len() + 1)
            .filter(|&n| n <= MOST_CELLS)?;
        let mut table = Self {
            lens: vec![0; cells],
            width,
        };
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                let len = match x == y {
                    true => table.at(i, j) + 1,
                    false => table.at(i, j + 1).max(table.at(i + 1, j)),
                };
                if let Some(cell) = table.lens.get_mut((i + 1) * width + j + 1) {
                    *cell = len;
                }
            }
        }
        Some(table)
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lens.get(i * self.width + j).copied().unwrap_or(0)
    }

    /// What is common, and where it lies, from the end on.
    fn walk(&self, a: &[u8], b: &[u8], options: &Options) -> (Vec<u8>, Vec<Value>) {
        let (mut i, mut j) = (a.len(), b.len());
        let (mut common, mut ranges) = (Vec::new(), Vec::new());
        // The end of the run of equal bytes that is being walked through, and its length.
        let mut run: Option<(usize, usize, usize)> = None;
        let mut close = |run: &mut Option<(usize, usize, usize)>| {
            if let Some((a_end, b_end, len)) = run.take()
                && i64::try_from(len).is_ok_and(|len| len >= options.shortest)
            {
                let range = |end: usize| Value::Array(vec![int(end - len), int(end - 1)]);
                let mut row = vec![range(a_end), range(b_end)];
                if options.with_lengths {
                    row.push(int(len));
                }
                ranges.push(Value::Array(row));
            }
        };
        while i > 0 && j > 0 {
            match (a.get(i - 1), b.get(j - 1)) {
                (Some(x), Some(y)) if x == y => {
                    common.push(*x);
                    let (a_end, b_end, len) = run.unwrap_or((i, j, 0));
                    run = Some((a_end, b_end, len + 1));
                    i -= 1;
                    j -= 1;
                }
                _ => {
                    close(&mut run);
                    match self.at(i - 1, j) > self.at(i, j - 1) {
                        true => i -= 1,
                        false => j -= 1,
                    }
                }
            }
        }
        close(&mut run);
        common.reverse();
        (common, ranges)
    }
}
