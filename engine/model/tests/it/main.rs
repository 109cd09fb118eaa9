//! Tests of the vocabulary.

mod primitives;
mod record;
