//! Varints, compact strings and tagged fields.
