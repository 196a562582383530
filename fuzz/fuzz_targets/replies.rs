//! Any bytes at all from a server, in any pieces: the same comes out, and memory stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redkit_core::fuzzing::decode_in_pieces;

fuzz_target!(|data: &[u8]| {
    let [piece, bytes @ ..] = data else { return };
    let whole = decode_in_pieces(bytes, usize::MAX);
    let pieces = decode_in_pieces(bytes, usize::from(*piece) + 1);
    assert_eq!(whole, pieces);
});
