//! Numbers as text: `%.17g`, and the 80-bit floats in which the server adds to counters.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::ToPrimitive;

/// A double as `printf("%.17g")` writes it.
pub(crate) fn format_g17(number: f64) -> String {
    format_g(number, 17)
}

/// A double as `printf("%g")` writes it with this many significant digits.
pub(crate) fn format_g(number: f64, digits: usize) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let fraction = digits.saturating_sub(1);
    let scientific = format!("{number:.fraction$e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let limit = i64::try_from(digits).unwrap_or(i64::MAX);
    if (-4..limit).contains(&exponent) {
        let decimals = usize::try_from(limit - 1 - exponent).unwrap_or(0);
        return trim(&format!("{number:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs())
}

/// Without the zeros, and the point, that say nothing.
fn trim(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

/// A hexadecimal float without its sign, as C reads it: the mantissa, and the power of two that it
/// is multiplied with.
fn parse_hex(text: &str) -> Option<(BigUint, i64)> {
    let text = text.strip_prefix("0x").or(text.strip_prefix("0X"))?;
    let (mantissa, power) = match text.split_once(['p', 'P']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let exponent = i64::from(power) - i64::try_from(fraction.len()).ok()? * 4;
    Some((BigUint::parse_bytes(digits.as_bytes(), 16)?, exponent))
}

/// A hexadecimal float with its sign, as a double.
pub(crate) fn parse_hex_f64(text: &str) -> Option<f64> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (-1.0, magnitude),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = parse_hex(magnitude)?;
    let mantissa = mantissa.to_f64()?;
    // In two steps, so that neither of them leaves the range of a double before the other.
    let half = i32::try_from((exponent / 2).clamp(-1_100, 1_100)).ok()?;
    let rest = i32::try_from((exponent - exponent / 2).clamp(-1_100, 1_100)).ok()?;
    Some(sign * mantissa * 2_f64.powi(half) * 2_f64.powi(rest))
}

/// The server adds floats to counters as x86 long doubles, which have 64 bits of mantissa: 0.1 and
/// 0.2 make 0.3 there and would not in 64-bit floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extended {
    Finite(Finite),
    /// Readable, although no sum with it is ever stored.
    Infinite,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finite {
    mantissa: BigInt,
    /// The power of two that the mantissa is multiplied with.
    exponent: i64,
}

const MANTISSA_BITS: u64 = 64;
/// Longer texts than this are no numbers to the server.
const MAX_TEXT: usize = 5 * 1024 - 1;
/// Powers of two that a long double reaches.
const MAX_EXPONENT: i64 = 16_384;
const MIN_EXPONENT: i64 = -16_445;

impl Extended {
    /// Reads a decimal number; `nan`, blanks and what does not fit are refused.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let magnitude = text.strip_prefix(b"-").or(text.strip_prefix(b"+"));
        let magnitude = magnitude.unwrap_or(text);
        if ["inf", "infinity"]
            .iter()
            .any(|name| magnitude.eq_ignore_ascii_case(name.as_bytes()))
        {
            return Some(Extended::Infinite);
        }
        Finite::parse(text).map(Extended::Finite)
    }

    /// The sum; `None` when it is not finite.
    pub(crate) fn add(&self, other: &Self) -> Option<Finite> {
        match (self, other) {
            (Extended::Finite(a), Extended::Finite(b)) => a.add(b),
            _ => None,
        }
    }

    pub(crate) fn is_infinite(&self) -> bool {
        matches!(self, Extended::Infinite)
    }
}

impl Finite {
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if let Some((mantissa, exponent)) = parse_hex(text) {
            // A zero with an exponent would be shifted by it.
            let exponent = if mantissa == BigUint::ZERO {
                0
            } else {
                exponent
            };
            let number = Self::round(negative, &mantissa, exponent);
            return number.fits().then_some(number);
        }
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = [whole, fraction].concat();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = BigUint::parse_bytes(digits.as_bytes(), 10)?;
        if digits == BigUint::ZERO {
            return Some(Self::round(negative, &digits, 0));
        }
        let power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        // Far outside of what fits, before any large number is made of it.
        if !(-10_100..=5_000).contains(&power) {
            return None;
        }
        let ten = BigUint::from(10_u8).pow(u32::try_from(power.unsigned_abs()).ok()?);
        let number = match power >= 0 {
            true => Self::round(negative, &(digits * ten), 0),
            false => {
                // Enough bits in the quotient to round it once, and a sticky one for the rest.
                let shift = (ten.bits() + MANTISSA_BITS + 2).saturating_sub(digits.bits());
                let scaled = digits << shift;
                let sticky = &scaled % &ten != BigUint::ZERO;
                let quotient = (scaled / ten) * 2_u8 + u8::from(sticky);
                Self::round(negative, &quotient, -i64::try_from(shift).ok()? - 1)
            }
        };
        number.fits().then_some(number)
    }

    fn add(&self, other: &Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let align = |n: &Self| &n.mantissa << u64::try_from(n.exponent - exponent).unwrap_or(0);
        let sum = align(self) + align(other);
        let sum = Self::round(sum.sign() == Sign::Minus, sum.magnitude(), exponent);
        sum.fits().then_some(sum)
    }

    /// As `printf("%.17Lf")` writes it, without trailing zeros.
    pub(crate) fn to_text(&self) -> String {
        let magnitude = self.mantissa.magnitude() * BigUint::from(10_u8).pow(17);
        let digits = match u64::try_from(self.exponent) {
            Ok(left) => magnitude << left,
            Err(_) => shift_right_rounding(&magnitude, self.exponent.unsigned_abs()),
        };
        let digits = format!("{:0>18}", digits.to_string());
        let (whole, fraction) = digits.split_at(digits.len() - 17);
        let text = format!("{whole}.{fraction}");
        let text = trim(&text);
        match self.mantissa.sign() == Sign::Minus && text != "0" {
            true => format!("-{text}"),
            false => text.to_owned(),
        }
    }

    /// Rounds to 64 bits, half to even.
    fn round(negative: bool, magnitude: &BigUint, exponent: i64) -> Self {
        let excess = magnitude.bits().saturating_sub(MANTISSA_BITS);
        let rounded = shift_right_rounding(magnitude, excess);
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Self {
            mantissa: BigInt::from_biguint(sign, rounded),
            exponent: exponent.saturating_add(i64::try_from(excess).unwrap_or(i64::MAX)),
        }
    }

    fn fits(&self) -> bool {
        let bits = i64::try_from(self.mantissa.bits()).unwrap_or(i64::MAX);
        let top = self.exponent.saturating_add(bits);
        bits == 0 || (MIN_EXPONENT..=MAX_EXPONENT).contains(&top)
    }
}

fn shift_right_rounding(number: &BigUint, bits: u64) -> BigUint {
    if bits == 0 {
        return number.clone();
    }
    let floor = number >> bits;
    let half = BigUint::from(1_u8) << (bits - 1);
    let rest = number - (&floor << bits);
    match rest > half || (rest == half && floor.bit(0)) {
        true => floor + 1_u8,
        false => floor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hexadecimal_zero_has_no_exponent() {
        for text in ["0x0p-2147483648", "-0x0.0p2147483647", "0x0p0"] {
            let zero = Finite::parse(text.as_bytes()).unwrap();
            assert_eq!(zero.exponent, 0, "{text}");
            assert_eq!(zero.to_text(), "0");
        }
    }

    #[test]
    fn doubles_are_written_with_17_digits() {
        for (number, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.10000000000000001"),
            (1e20, "1e+20"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (1e300, "1.0000000000000001e+300"),
            (12_345_678_901_234_567_890.0, "1.2345678901234567e+19"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_g17(number), expected);
        }
    }

    fn sum(a: &str, b: &str) -> Option<String> {
        let (a, b) = (
            Extended::parse(a.as_bytes())?,
            Extended::parse(b.as_bytes())?,
        );
        Some(a.add(&b)?.to_text())
    }

    #[test]
    fn counters_add_in_extended_precision() {
        // The expected texts are those of Redis 7.0.15 on x86-64.
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3.5", "-0.5"),
            ("0", "-0", "0"),
            ("1e-30", "0", "0"),
            ("1e20", "1", "100000000000000000000"),
            ("0", "3.141592653589793", "3.141592653589793"),
            ("0x10", "0x.8p1", "17"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
        for text in [
            "", " 1", "1 ", "nan", "infi", "x", ".", "1e", "--1", "1e5000", "1e-5000", "0x", "0xg",
        ] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
