//! Callers, writes of any size and any replies, in any order: nothing panics, commands stay whole, and
//! nothing is left when all is over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redkit_core::fuzzing::exchange;

fuzz_target!(|data: &[u8]| exchange(data));
