//! Histories of operations: when each began and ended, and what came of it.
