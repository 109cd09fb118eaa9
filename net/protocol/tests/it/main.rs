//! Tests of the codec: against another implementation, against fixed bytes, and against hostile ones.

// Tables and scripts of many rows read best in one piece.
#![allow(clippy::too_many_lines)]

extern crate ringlog_protocol as protocol;

mod frames;
mod golden;
mod hostile;
mod registry;
mod round_trip;
mod second_opinion;
mod values;

use bytes::Bytes;
use protocol::writer::Writer;
use protocol::{ApiKey, FRAME_LENGTH_BYTES, Request, Response};

/// The slices of a frame as one, without the length prefix, which is checked.
fn body_of(slices: &[Bytes]) -> Bytes {
    let mut frame = Bytes::from(slices.concat());
    let body = frame.split_off(FRAME_LENGTH_BYTES);
    assert_eq!(&frame[..], (body.len() as u32).to_be_bytes());
    body
}

/// The body of a request alone.
fn request_bytes(request: &Request, version: i16) -> Bytes {
    let mut writer = Writer::new();
    request.encode(&mut writer, version);
    body_of(&writer.finish().unwrap())
}

/// The body of a response alone.
fn response_bytes(response: &Response, version: i16) -> Bytes {
    let mut writer = Writer::new();
    response.encode(&mut writer, version);
    body_of(&writer.finish().unwrap())
}

/// Runs `check` for every API and version the codec knows.
fn for_every_version(mut check: impl FnMut(ApiKey, i16)) {
    for api in protocol::APIS {
        for version in api.versions.iter() {
            check(api.key, version);
        }
    }
}
