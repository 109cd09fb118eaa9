//! Record batches: golden bytes, round trips, hostile input, and the answers of a real broker.

mod answers;
mod round_trip;
