use proptest::prelude::*;

use super::*;

fn decoder() -> Decoder {
    Decoder::new(Limits::default())
}

/// Everything in `bytes`, fed in pieces of `piece`.
fn frames(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Violation> {
    let mut decoder = decoder();
    let mut all = Vec::new();
    for bytes in bytes.chunks(piece.max(1)) {
        decoder.feed(bytes);
        while let Some(frame) = decoder.next()? {
            all.push(frame);
        }
    }
    Ok(all)
}

fn value(bytes: &str) -> Value {
    match frames(bytes.as_bytes(), usize::MAX).unwrap().pop() {
        Some(Frame::Reply(Ok(value))) => value,
        other => panic!("{other:?}"),
    }
}

fn violation(bytes: &str) -> Violation {
    frames(bytes.as_bytes(), usize::MAX).unwrap_err()
}

#[test]
fn every_type_is_read() {
    assert_eq!(value("+OK\r\n"), Value::Ok);
    assert_eq!(value("+PONG\r\n"), Value::status("PONG"));
    assert_eq!(value(":-9223372036854775808\r\n"), Value::Int(i64::MIN));
    assert_eq!(value(":+7\r\n"), Value::Int(7));
    assert_eq!(value("$2\r\n\r\n\r\n"), Value::bulk("\r\n"));
    assert_eq!(value("$0\r\n\r\n"), Value::bulk(""));
    for nil in ["_\r\n", "$-1\r\n", "*-1\r\n"] {
        assert_eq!(value(nil), Value::Nil);
    }
    assert_eq!(value("#t\r\n"), Value::Bool(true));
    assert_eq!(value(",1.5e+20\r\n"), Value::Double(1.5e20));
    assert_eq!(value(",-inf\r\n"), Value::Double(f64::NEG_INFINITY));
    assert!(matches!(value(",nan\r\n"), Value::Double(nan) if nan.is_nan()));
    assert_eq!(
        value("(-34928903284092385092489102390\r\n"),
        Value::BigNumber("-34928903284092385092489102390".into())
    );
    let verbatim = Value::Verbatim {
        format: "txt".into(),
        text: "Some".into(),
    };
    assert_eq!(value("=8\r\ntxt:Some\r\n"), verbatim);
    assert_eq!(
        value("*2\r\n~1\r\n:1\r\n%1\r\n+a\r\n!7\r\nERR odd\r\n"),
        Value::Array(vec![
            Value::Set(vec![Value::Int(1)]),
            Value::Map(vec![(
                Value::status("a"),
                Value::Error(ServerError::new("ERR", "odd"))
            )]),
        ])
    );
    for (empty, expected) in [
        ("*0\r\n", Value::Array(vec![])),
        ("~0\r\n", Value::Set(vec![])),
        ("%0\r\n", Value::Map(vec![])),
    ] {
        assert_eq!(value(empty), expected);
    }
}

#[test]
fn errors_pushes_and_attributes_are_told_apart() {
    let bytes = "-WRONGTYPE x\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:3\r\n:5\r\n\
                 *2\r\n|0\r\n:1\r\n|1\r\n*1\r\n:9\r\n:9\r\n:2\r\n";
    let expected = vec![
        Frame::Reply(Err(ServerError::new("WRONGTYPE", "x"))),
        Frame::Push(vec![Value::status("invalidate"), Value::Nil]),
        Frame::Reply(Ok(Value::Int(5))),
        Frame::Reply(Ok(Value::Array(vec![Value::Int(1), Value::Int(2)]))),
    ];
    for piece in [1, 2, 3, 7, usize::MAX] {
        assert_eq!(
            frames(bytes.as_bytes(), piece).unwrap(),
            expected,
            "{piece}"
        );
    }
}

#[test]
fn what_no_server_may_send_is_a_violation() {
    assert_eq!(violation("HTTP/1.1 400"), Violation::Marker(b'H'));
    assert_eq!(violation("\r\n"), Violation::Marker(b'\r'));
    assert_eq!(violation("$2\r\nabc\r\n"), Violation::Tail);
    assert_eq!(violation("*1\r\n>1\r\n+x\r\n"), Violation::PushInside);
    assert_eq!(violation(">0\r\n"), Violation::PushEmpty);
    for line in [
        ":\r\n",
        ":-\r\n",
        ":1x\r\n",
        ":9223372036854775808\r\n",
        "#x\r\n",
        ",x\r\n",
        "(1.5\r\n",
        "$-2\r\n",
        "*?\r\n",
        "$1\r",
        "+a\nb\r\n",
        "+a\rb\r\n",
        "=3\r\ntxt\r\n",
        "%9223372036854775807\r\n:1\r\n",
    ] {
        match frames(line.as_bytes(), usize::MAX) {
            Err(Violation::Line(_)) => {}
            Ok(frames) if line == "$1\r" || line.starts_with('%') => assert!(frames.is_empty()),
            other => panic!("{line:?}: {other:?}"),
        }
    }
    let long = format!("+{}", "a".repeat(70_000));
    assert!(matches!(violation(&long), Violation::Line(_)));
}

#[test]
fn limits_hold_and_nothing_is_reserved_on_a_servers_word() {
    let huge = 1_u64 << 62;
    assert_eq!(
        violation(&format!("${huge}\r\n")),
        Violation::Bulk(huge, Limits::default().bulk)
    );
    let mut decoder = decoder();
    for head in [
        format!("*{huge}\r\n"),
        format!("%{}\r\n", huge >> 1),
        "$500000000\r\n".into(),
    ] {
        decoder.feed(head.as_bytes());
        assert_eq!(decoder.next(), Ok(None));
    }
    assert!(decoder.kept() <= 64 * 1024, "{}", decoder.kept());
    assert_eq!(
        violation(&"*1\r\n".repeat(1_000_000)),
        Violation::Depth(128)
    );
    let mut small = Decoder::new(Limits {
        total: 1 << 20,
        ..Limits::default()
    });
    small.feed(format!("*{huge}\r\n").as_bytes());
    let mut fed = 0;
    let ended = loop {
        small.feed(&b":1\r\n".repeat(1000));
        fed += 1000;
        if let Err(violation) = small.next() {
            break violation;
        }
    };
    assert_eq!(ended, Violation::Total(1 << 20));
    assert!(fed < 40_000, "{fed}");
}

#[test]
fn large_strings_share_the_buffer_and_small_ones_do_not() {
    let mut decoder = decoder();
    let large = "x".repeat(5000);
    decoder.feed(format!("$5\r\nsmall\r\n$5000\r\n{large}\r\n").as_bytes());
    let Ok(Some(Frame::Reply(Ok(Value::Bulk(small))))) = decoder.next() else {
        panic!("it is whole");
    };
    let range = decoder.buffer.as_ptr_range();
    assert!(!range.contains(&small.as_ptr()), "it is a copy");
    let Ok(Some(Frame::Reply(Ok(Value::Bulk(shared))))) = decoder.next() else {
        panic!("it is whole");
    };
    assert!(range.contains(&shared.as_ptr()), "it is the buffer's own");
    assert_eq!(shared, large.as_bytes());
}

#[test]
fn a_large_string_leaves_no_large_buffer_behind() {
    let mut decoder = decoder();
    let length = 8 << 20;
    decoder.feed(format!("${length}\r\n").as_bytes());
    let mut most = 0;
    for piece in vec![b'v'; length].chunks(10_000) {
        assert_eq!(decoder.next(), Ok(None));
        decoder.feed(piece);
        most = most.max(decoder.kept());
    }
    assert!(most <= length + TAIL, "{most}");
    decoder.feed(b"\r\n");
    let Ok(Some(Frame::Reply(Ok(Value::Bulk(bytes))))) = decoder.next() else {
        panic!("it is whole");
    };
    assert_eq!(bytes.len(), length);
    drop(bytes);
    decoder.feed(b":1\r\n");
    assert!(decoder.kept() <= 64 * 1024, "{}", decoder.kept());
}

/// Counted in bytes looked at, which does not depend on how busy the machine is.
#[test]
fn a_reply_that_comes_in_pieces_is_not_read_anew_with_each() {
    let items = 100_000;
    let text = format!(
        "*{items}\r\n{}",
        "$9\r\nsomething\r\n:12345\r\n".repeat(items / 2)
    );
    let mut decoder = decoder();
    for piece in text.as_bytes().chunks(1024) {
        assert_eq!(decoder.next(), Ok(None));
        decoder.feed(piece);
    }
    let Ok(Some(Frame::Reply(Ok(Value::Array(all))))) = decoder.next() else {
        panic!("it is whole");
    };
    assert_eq!(all.len(), items);
    assert!(
        decoder.examined <= text.len() as u64,
        "{}",
        decoder.examined
    );
    // A line that comes byte by byte is looked at once, too.
    let line = format!("+{}\r\n", "a".repeat(60_000));
    let mut slow = self::decoder();
    for byte in line.as_bytes().chunks(1) {
        assert_eq!(slow.next(), Ok(None));
        slow.feed(byte);
    }
    assert!(slow.next().unwrap().is_some());
    assert!(slow.examined <= line.len() as u64);
}

fn any_value() -> impl Strategy<Value = Value> {
    let number = any::<i64>();
    let leaf = prop_oneof![
        Just(Value::Nil),
        Just(Value::Ok),
        "[a-z ]{0,20}".prop_map(|text| Value::status(&text)),
        number.prop_map(Value::Int),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(|number| Value::Double(f64::from(number) / 8.0)),
        prop::collection::vec(any::<u8>(), 0..3000).prop_map(Value::bulk),
        "[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into())),
        "[a-z]{0,9}".prop_map(|text| Value::Error(ServerError::new("ERR", text))),
        "[a-z]{0,9}".prop_map(|text| Value::Verbatim {
            format: "txt".into(),
            text: text.into()
        }),
    ];
    leaf.prop_recursive(5, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Set),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn write(value: &Value, out: &mut Vec<u8>) {
    let line = |out: &mut Vec<u8>, text: String| {
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    let bulk = |out: &mut Vec<u8>, marker: char, bytes: &[u8]| {
        out.extend_from_slice(format!("{marker}{}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    };
    match value {
        Value::Nil => line(out, "_".into()),
        Value::Ok => line(out, "+OK".into()),
        Value::Status(text) => line(out, format!("+{text}")),
        Value::Int(number) => line(out, format!(":{number}")),
        Value::Bool(truth) => line(out, format!("#{}", if *truth { 't' } else { 'f' })),
        Value::Double(number) => line(out, format!(",{number}")),
        Value::BigNumber(digits) => line(out, format!("({}", String::from_utf8_lossy(digits))),
        Value::Bulk(bytes) => bulk(out, '$', bytes),
        Value::Error(error) => bulk(out, '!', error.to_string().as_bytes()),
        Value::Verbatim { text, .. } => bulk(out, '=', &[b"txt:", &text[..]].concat()),
        Value::Array(items) => {
            line(out, format!("*{}", items.len()));
            items.iter().for_each(|item| write(item, out));
        }
        Value::Set(items) => {
            line(out, format!("~{}", items.len()));
            items.iter().for_each(|item| write(item, out));
        }
        Value::Map(pairs) => {
            line(out, format!("%{}", pairs.len()));
            for (key, value) in pairs {
                write(key, out);
                write(value, out);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_server_writes_is_read_however_it_is_cut(
        values in prop::collection::vec(any_value(), 1..4),
        cuts in prop::collection::vec(1_usize..700, 1..20),
    ) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| write(value, &mut bytes));
        let expected: Vec<_> = values
            .into_iter()
            .map(|value| Frame::Reply(match value {
                Value::Error(error) => Err(error),
                other => Ok(other),
            }))
            .collect();
        let mut decoder = decoder();
        let (mut got, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*cut));
            decoder.feed(now);
            rest = later;
            while let Some(frame) = decoder.next().unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(&b"+-:_#,($!=*~%>|0123\r\n"[..])
        ], 0..200),
        piece in 1_usize..20,
    ) {
        let whole = frames(&bytes, usize::MAX);
        let pieces = frames(&bytes, piece);
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }
}
