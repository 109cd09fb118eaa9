//! Tests of the vocabulary.

mod record;
