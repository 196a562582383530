//! temporary
/// temporary
#[derive(Debug, Clone, thiserror::Error)]
#[error("x")]
pub struct ConfigError;
