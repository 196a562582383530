//! Checks of histories against what was promised.
