//! Record batches: golden bytes, round trips, hostile input, and the answers of a real broker.

mod answers;
mod foreign;
mod hostile;
mod round_trip;
