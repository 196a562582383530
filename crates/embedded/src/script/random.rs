//! `math.random` of scripts: the 48-bit congruential generator of POSIX, so that scripts which seed
//! it get the numbers that they get on the server.

use mlua::{Lua, Table};
use parking_lot::Mutex;

use std::sync::Arc;

use super::raise;

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
/// Where the generator starts when nobody seeds it.
const UNSEEDED: u64 = 0x1234_ABCD_330E;
const MASK: u64 = (1 << 48) - 1;
/// The largest number that the generator gives, as a divisor.
const MAX: f64 = 2_147_483_647.0;

#[derive(Debug)]
struct Generator {
    state: u64,
}

impl Generator {
    fn seed(&mut self, seed: u32) {
        self.state = (u64::from(seed) << 16) | 0x330E;
    }

    /// From 0 up to 1.
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(11) & MASK;
        let bits = u32::try_from(self.state >> 17).unwrap_or(0) % 2_147_483_647;
        f64::from(bits) / MAX
    }
}

/// Replaces `math.random` and `math.randomseed`.
pub(super) fn install(lua: &Lua, math: &Table) -> mlua::Result<()> {
    let generator = Arc::new(Mutex::new(Generator { state: UNSEEDED }));
    let shared = Arc::clone(&generator);
    let random = lua.create_function(move |lua, (low, high): (Option<f64>, Option<f64>)| {
        let unit = shared.lock().next();
        let (low, high) = match (low, high) {
            (None, _) => return Ok(unit),
            (Some(high), None) => (1.0, high.floor()),
            (Some(low), Some(high)) => (low.floor(), high.floor()),
        };
        if low > high {
            return Err(raise::text(
                lua,
                "bad argument to 'random' (interval is empty)",
            ));
        }
        Ok((unit * (high - low + 1.0)).floor() + low)
    })?;
    math.raw_set("random", random)?;
    let shared = generator;
    let seed = lua.create_function(move |_, seed: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a seed is any 32 bits"
        )]
        shared.lock().seed((seed as i64) as u32);
        Ok(())
    })?;
    math.raw_set("randomseed", seed)
}
