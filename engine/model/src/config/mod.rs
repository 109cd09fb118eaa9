//! The configuration registry.
