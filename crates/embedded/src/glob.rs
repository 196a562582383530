//! Glob patterns as the server matches them: `*`, `?`, `[a-z]`, `[^x]` and `\x`.

/// Whether `text` matches `pattern`.
///
/// After a mismatch only the last `*` is tried again, one byte further, so the work is bounded by
/// the product of the two lengths however many stars there are.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        match step(pattern, p, byte) {
            Step::Star => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            Step::Matched(next) => {
                p = next;
                t += 1;
                continue;
            }
            Step::Failed => {}
        }
        match retry {
            Some((after_star, from)) => {
                p = after_star;
                t = from + 1;
                retry = Some((after_star, t));
            }
            None => return false,
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}

enum Step {
    Star,
    /// The byte matched; the pattern goes on at this index.
    Matched(usize),
    Failed,
}

fn step(pattern: &[u8], at: usize, byte: u8) -> Step {
    let Some(&head) = pattern.get(at) else {
        return Step::Failed;
    };
    let (matched, next) = match head {
        b'*' => return Step::Star,
        b'?' => (true, at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' => match pattern.get(at + 1) {
            Some(&escaped) => (escaped == byte, at + 2),
            None => (byte == b'\\', at + 1),
        },
        literal => (literal == byte, at + 1),
    };
    match matched {
        true => Step::Matched(next),
        false => Step::Failed,
    }
}

/// Matches a byte against the class that starts at `at`, behind its bracket; a class that is not
/// closed ends with the pattern, as on the server.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> (bool, usize) {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        match pattern.get(at) {
            None => break,
            Some(b']') => {
                at += 1;
                break;
            }
            Some(b'\\') if pattern.get(at + 1).is_some() => {
                found |= pattern.get(at + 1) == Some(&byte);
                at += 2;
            }
            Some(&low) => match (pattern.get(at + 1), pattern.get(at + 2)) {
                (Some(b'-'), Some(&high)) => {
                    found |= (low.min(high)..=low.max(high)).contains(&byte);
                    at += 3;
                }
                _ => {
                    found |= low == byte;
                    at += 1;
                }
            },
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_on_the_server() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[\\]]", "]", true),
            ("[abc", "b", true),
            ("a**b", "ab", true),
            ("?", "", false),
            ("*a*b", "xaab", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern:?} {text:?}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let pattern = "a*".repeat(500) + "b";
        let text = "a".repeat(5000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
