//! Production Redis patterns on one connection core.
