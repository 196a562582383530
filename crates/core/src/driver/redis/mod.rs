//! Clusters.

pub(super) mod cluster;
