//! Tests of the vocabulary.

mod config;
mod primitives;
mod quantity;
mod record;
