//! Lists in header fields: elements between commas, some of them in quotes.

/// The elements of one line, without the white space around them. Empty ones are left out.
pub(crate) struct Elements<'l> {
    pub(crate) elements: Vec<&'l [u8]>,
    /// A quote was opened and not closed: what follows it may be anything.
    pub(crate) is_cut_off: bool,
}

/// Splits a line at commas that do not stand in quotes. A backslash in quotes takes the next byte
/// with it.
pub(crate) fn split(line: &[u8]) -> Elements<'_> {
    let mut elements = Vec::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    let at_comma = |byte: &u8| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    };
    for element in line.split(at_comma) {
        let element = element.trim_ascii();
        if !element.is_empty() {
            elements.push(element);
        }
    }
    Elements {
        elements,
        is_cut_off: is_quoted,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn commas_in_quotes_do_not_split() {
        let split = |line: &'static str| super::split(line.as_bytes());
        let whole = split(" a ,b=\"1, \\\" 2\",, c\t");
        assert_eq!(whole.elements, [&b"a"[..], b"b=\"1, \\\" 2\"", b"c"]);
        assert!(!whole.is_cut_off);
        let cut = split("a=\"1, b");
        assert_eq!(cut.elements, [b"a=\"1, b"]);
        assert!(cut.is_cut_off);
        assert!(split("").elements.is_empty());
    }
}
