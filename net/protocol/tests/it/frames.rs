//! Frames: length prefixes, headers, what ends a connection and what does not.

use bytes::Bytes;
use protocol::*;

use crate::body_of;

#[test]
fn length_prefixes() {
    type Case = (&'static [u8], Result<Option<usize>, FrameError>);
    let cases: &[Case] = &[
        (&[], Ok(None)),
        (&[0, 0, 0], Ok(None)),
        (&[0, 0, 0, 0], Ok(Some(0))),
        (&[0, 0, 0, 5, 1, 2], Ok(Some(5))),
        (&[0, 0, 0, 100], Ok(Some(100))),
        (
            &[0, 0, 0, 101],
            Err(FrameError::TooLong {
                length: 101,
                max: 100,
            }),
        ),
        (
            &[0x40, 0, 0, 0],
            Err(FrameError::TooLong {
                length: 1 << 30,
                max: 100,
            }),
        ),
        (&[0xff; 4], Err(FrameError::NegativeLength(-1))),
    ];
    for (buffered, expected) in cases {
        assert_eq!(frame_length(buffered, 100), *expected, "{buffered:?}");
    }
}

/// A header without client id, and a body.
fn frame(key: i16, version: i16, body: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(77i32.to_be_bytes());
    bytes.extend(body);
    Bytes::from(bytes)
}

#[test]
fn requests_that_no_handler_sees() {
    const NULL: &[u8] = &[0xff, 0xff];
    let versions = |version| RequestError::ApiVersionsVersion {
        version,
        correlation_id: 77,
    };
    let unsupported = |api, version| RequestError::UnsupportedVersion { api, version };
    let cases = [
        (frame(18, 5, NULL), versions(5)),
        (frame(18, -1, &[]), versions(-1)),
        (frame(18, i16::MAX, &[0xff; 40]), versions(i16::MAX)),
        (frame(0, 2, NULL), unsupported(ApiKey::Produce, 2)),
        (frame(0, 14, NULL), unsupported(ApiKey::Produce, 14)),
        (frame(1, 3, NULL), unsupported(ApiKey::Fetch, 3)),
        (frame(4, 0, NULL), RequestError::UnknownApi(4)),
        (frame(-3, 0, NULL), RequestError::UnknownApi(-3)),
        (
            frame(17, 1, &[0xff, 0xff, 0, 1, b'x']),
            RequestError::UnknownApi(17),
        ),
        (
            Bytes::new(),
            RequestError::Header(DecodeError::UnexpectedEnd),
        ),
        (
            frame(18, 0, &[0]),
            RequestError::Header(DecodeError::UnexpectedEnd),
        ),
        (
            frame(18, 0, &[0xff, 0xfe]),
            RequestError::Header(DecodeError::NegativeLength(-2)),
        ),
        (
            frame(18, 0, &[0, 1, 0xff]),
            RequestError::Header(DecodeError::InvalidUtf8),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse_request(bytes), Err(expected));
    }
    // Metadata v0 has no null list of topics: Kafka ends the connection.
    let error = parse_request(frame(3, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])).unwrap_err();
    let expected = RequestError::Body {
        api: ApiKey::Metadata,
        version: 0,
        error: DecodeError::NullNotAllowed,
    };
    assert_eq!(error, expected);
}

#[test]
fn bytes_behind_a_body_are_ignored() {
    let (header, request) = parse_request(frame(18, 0, &[0xff, 0xff, 1, 2, 3])).unwrap();
    assert_eq!(header.correlation_id, 77);
    assert_eq!(header.client_id, None);
    assert_eq!(request, Request::from(ApiVersionsRequest::default()));
}

#[test]
fn unknown_tagged_fields_are_skipped_in_header_and_body() {
    let body: &[u8] = &[
        0, 1, b'c', // client id
        2, 0, 1, 9, 0x81, 0x01, 2, 7, 7, // two tagged fields of the header
        2, b'n', 2, b'v', // name and version
        1, 100, 3, 1, 2, 3, // one tagged field of the body
    ];
    let (header, request) = parse_request(frame(18, 3, body)).unwrap();
    assert_eq!(header.client_id, Some("c".into()));
    let expected = ApiVersionsRequest {
        client_software_name: "n".into(),
        client_software_version: "v".into(),
    };
    assert_eq!(request, Request::from(expected));
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let frame = body_of(&unsupported_api_versions(77).unwrap());
    let expected = [0, 0, 0, 77, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    assert_eq!(&frame[..], expected);
}

#[test]
fn a_header_of_another_api_is_refused() {
    let header = RequestHeader {
        api_key: ApiKey::Fetch,
        api_version: 4,
        correlation_id: 1,
        client_id: None,
    };
    let request = Request::from(HeartbeatRequest::default());
    assert_eq!(
        encode_request(&header, &request),
        Err(EncodeError::WrongApi)
    );
}
