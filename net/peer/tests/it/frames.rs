//! The bytes of headers and handshakes: fixed, and hostile.

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use model::{BrokerEpoch, BrokerId, ShardId};
use peer::frame::{FrameError, HEADER_BYTES, Header, Numbers};
use peer::handshake::{
    BODY_BYTES_MAX, CLUSTER_BYTES_MAX, ENVELOPE_BYTES, Expected, HandshakeError, Hello, Versions,
    Welcome, decode_answer, encode_answer, take_body,
};
use peer::{Kind, PeerIdentity, Purpose, Refusal};
use proptest::prelude::*;
use quorum::{DirectoryId, ReplicaKey};

fn header(kind: Kind, length: u32, number: u64) -> [u8; HEADER_BYTES] {
    let header = Header {
        length,
        kind,
        number,
    };
    header.encode()[..].try_into().unwrap()
}

/// Puts the right checksum behind changed fields.
fn resealed(mut bytes: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
    let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn a_header_has_fixed_bytes() {
    let bytes = header(Kind::Message, 0x0102, 0x0304);
    assert_eq!(
        bytes,
        *b"\x00\x00\x01\x02\x01\x00\x00\x00\x00\x00\x00\x00\x03\x04T>>\x91"
    );
}

#[test]
fn headers_come_back_where_they_belong_and_nowhere_else() {
    for purpose in Purpose::ALL {
        assert_eq!(Purpose::from_code(purpose.code()), Some(purpose));
        for kind in Kind::ALL {
            let check = |length: usize, expected: Result<(), FrameError>| {
                let length = u32::try_from(length).unwrap();
                let bytes = header(kind, length, 7);
                let found = Header::decode(&bytes, purpose);
                let header = Header {
                    length,
                    kind,
                    number: 7,
                };
                assert_eq!(found, expected.map(|()| header), "{purpose:?} {kind:?}");
            };
            match purpose.payload_bytes_max(kind) {
                None => check(0, Err(FrameError::Misplaced { kind, purpose })),
                Some(most) => {
                    check(0, Ok(()));
                    check(most, Ok(()));
                    let length = u32::try_from(most + 1).unwrap();
                    check(most + 1, Err(FrameError::TooLong { kind, length }));
                }
            }
        }
    }
}

#[test]
fn what_no_header_may_say_is_refused() {
    let good = header(Kind::Message, 1, 1);
    let mut kind = good;
    kind[4] = 9;
    let found = Header::decode(&resealed(kind), Purpose::Raft);
    assert_eq!(found, Err(FrameError::Kind(9)));
    let mut flags = good;
    flags[5] = 0x80;
    let found = Header::decode(&resealed(flags), Purpose::Raft);
    assert_eq!(found, Err(FrameError::Flags(0x80)));
    for bit in 0..HEADER_BYTES * 8 {
        let mut damaged = good;
        damaged[bit / 8] ^= 1 << (bit % 8);
        let found = Header::decode(&damaged, Purpose::Raft);
        assert_eq!(found, Err(FrameError::Checksum), "bit {bit}");
    }
}

#[test]
fn numbers_show_what_is_lost_or_comes_twice() {
    let mut numbers = Numbers::default();
    let mut check = |kind, number, expected: Option<u64>| {
        let found = numbers.check(&Header {
            length: 0,
            kind,
            number,
        });
        let error = expected.map(|last| FrameError::Number {
            kind,
            last,
            found: number,
        });
        assert_eq!(found.err(), error, "{kind:?} {number}");
    };
    check(Kind::Message, 0, Some(0));
    check(Kind::Message, 1, None);
    check(Kind::Message, 1, Some(1));
    check(Kind::Message, 3, Some(1));
    check(Kind::Message, 2, None);
    check(Kind::Request, 5, None);
    check(Kind::Request, 9, None);
    check(Kind::Request, 9, Some(9));
    check(Kind::Request, u64::MAX, None);
    check(Kind::Request, 0, Some(u64::MAX));
    check(Kind::Ping, 2, None);
    check(Kind::Ping, 2, Some(2));
    check(Kind::Answer, 2, None);
    check(Kind::Answer, 2, None);
}

fn identity(node: i32, directory: u8, epoch: i64) -> PeerIdentity {
    PeerIdentity {
        key: ReplicaKey {
            broker: BrokerId(node),
            directory: DirectoryId([directory; 16]),
        },
        epoch: BrokerEpoch(epoch),
    }
}

fn hello() -> Hello {
    Hello {
        versions: Versions {
            least: 1,
            greatest: 3,
        },
        purpose: Purpose::Raft.code(),
        source_shard: ShardId(2),
        target_shard: ShardId(3),
        from: identity(1, 0xaa, 77),
        to: Expected {
            node: BrokerId(2),
            directory: Some(DirectoryId([0xbb; 16])),
        },
        cluster: "c-1".to_owned(),
    }
}

fn body(bytes: &Bytes) -> Bytes {
    let mut buffer = BytesMut::from(&bytes[..]);
    let body = take_body(&mut buffer).unwrap().expect("whole");
    assert!(buffer.is_empty());
    body
}

#[test]
fn a_hello_has_fixed_bytes_and_comes_back() {
    let hello = hello();
    let bytes = hello.encode();
    let mut expected = b"RLPB\x00\x3c".to_vec();
    let mut fields = b"\x01\x03\x01\x00\x02\x00\x03\x00\x00\x00\x01".to_vec();
    fields.extend([0xaa; 16]);
    fields.extend(b"\x00\x00\x00\x00\x00\x00\x00\x4d\x00\x00\x00\x02\x01");
    fields.extend([0xbb; 16]);
    fields.extend(b"\x03c-1");
    expected.extend(crc32c::crc32c(&fields).to_be_bytes());
    expected.extend(fields);
    assert_eq!(bytes, expected);
    assert_eq!(Hello::decode(&body(&bytes)), Ok(hello.clone()));
    let anybody = Hello {
        to: Expected {
            node: BrokerId(2),
            directory: None,
        },
        cluster: "x".repeat(CLUSTER_BYTES_MAX),
        ..hello
    };
    assert_eq!(Hello::decode(&body(&anybody.encode())), Ok(anybody));
}

#[test]
fn answers_have_fixed_bytes_and_come_back() {
    let welcome = Welcome {
        version: 1,
        identity: identity(2, 0xbb, -1),
    };
    let bytes = encode_answer(&Ok(welcome));
    let mut expected = b"\x01\x01\x00\x00\x00\x02".to_vec();
    expected.extend([0xbb; 16]);
    expected.extend([0xff; 8]);
    assert_eq!(body(&bytes), expected);
    assert_eq!(decode_answer(&body(&bytes)), Ok(Ok(welcome)));
    let directory = DirectoryId([9; 16]);
    let versions = Versions {
        least: 2,
        greatest: 4,
    };
    for (code, refusal) in (1..).zip([
        Refusal::Cluster("other".to_owned()),
        Refusal::Node(BrokerId(-5)),
        Refusal::Directory(directory),
        Refusal::CallerDirectory(directory),
        Refusal::Version(versions),
        Refusal::Purpose(200),
        Refusal::Shard(ShardId(9)),
        Refusal::Oneself,
        Refusal::DuplicateNode(directory),
        Refusal::ShuttingDown,
        Refusal::TooManyConnections,
        Refusal::Malformed,
    ]) {
        assert_eq!(refusal.code(), code);
        let bytes = body(&encode_answer(&Err(refusal.clone())));
        assert_eq!(bytes[..2], [2, code]);
        assert_eq!(decode_answer(&bytes), Ok(Err(refusal)));
    }
    // A later version's reason, with fields that are not known here.
    assert_eq!(
        decode_answer(b"\x02\xc8what"),
        Ok(Err(Refusal::Unknown(200)))
    );
}

#[test]
fn a_handshake_that_is_cut_or_damaged_is_refused_or_waited_for() {
    let whole = hello().encode();
    for length in 0..whole.len() {
        let mut cut = BytesMut::from(&whole[..length]);
        assert_eq!(take_body(&mut cut), Ok(None), "{length} bytes");
    }
    for bit in 0..whole.len() * 8 {
        let mut damaged = BytesMut::from(&whole[..]);
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A length that grew is waited for in vain; nothing else passes.
        let found = take_body(&mut damaged);
        assert!(!matches!(found, Ok(Some(_))), "bit {bit}: {found:?}");
    }
    let fields = body(&whole);
    for length in 0..fields.len() {
        assert!(Hello::decode(&fields[..length]).is_err(), "{length} bytes");
    }
    let mut longer = fields.to_vec();
    longer.push(0);
    assert_eq!(Hello::decode(&longer), Err(HandshakeError::Trailing));
    let mut nameless = fields[..fields.len() - 3].to_vec();
    *nameless.last_mut().unwrap() = 0;
    assert_eq!(Hello::decode(&nameless), Err(HandshakeError::Value));
    let mut early = BytesMut::from(&b"GET"[..]);
    assert_eq!(take_body(&mut early), Err(HandshakeError::Magic));
    let mut long = BytesMut::from(&b"RLPB\xff\xff\0\0\0\0"[..]);
    let too_long = Err(HandshakeError::TooLong(u16::MAX));
    assert_eq!(take_body(&mut long), too_long);
}

#[test]
fn versions_meet_at_the_newest_that_both_know() {
    let range = |least, greatest| Versions { least, greatest };
    for (one, other, common) in [
        (range(1, 1), range(1, 1), Some(1)),
        (range(1, 3), range(2, 9), Some(3)),
        (range(2, 9), range(1, 3), Some(3)),
        (range(1, 2), range(3, 4), None),
        (range(3, 4), range(1, 2), None),
        (range(4, 1), range(1, 9), None),
        (range(0, 255), range(7, 7), Some(7)),
    ] {
        assert_eq!(one.common(other), common, "{one:?} {other:?}");
    }
}

#[test]
fn who_answers_must_be_who_was_asked() {
    let hello = hello();
    let welcome = |version, node, directory| Welcome {
        version,
        identity: identity(node, directory, 1),
    };
    assert_eq!(hello.check(&welcome(1, 2, 0xbb)), Ok(()));
    for other in [
        welcome(2, 2, 0xbb),
        welcome(0, 2, 0xbb),
        welcome(1, 3, 0xbb),
        welcome(1, 2, 0xbc),
    ] {
        let unexpected = Err(HandshakeError::Unexpected);
        assert_eq!(hello.check(&other), unexpected, "{other:?}");
    }
    let anybody = Hello {
        to: Expected {
            node: BrokerId(2),
            directory: None,
        },
        ..hello
    };
    assert_eq!(anybody.check(&welcome(1, 2, 0x01)), Ok(()));
}

/// Bytes that no decoder takes more memory for than a cluster's name.
const DECODE_HEAP_MAX: u64 = 2 * BODY_BYTES_MAX as u64;

proptest! {
    #[test]
    fn no_bytes_panic_or_take_memory(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        front in 0..4usize,
    ) {
        // Random bytes rarely get past the first field: give some of them a good beginning.
        let mut bytes = bytes;
        let whole = hello().encode();
        let good = [0, 4, ENVELOPE_BYTES, ENVELOPE_BYTES + 20][front].min(bytes.len());
        bytes[..good].copy_from_slice(&whole[..good]);
        let mut buffer = BytesMut::from(&bytes[..]);
        let after = bytes.get(ENVELOPE_BYTES..).unwrap_or_default();
        let heap = measure(|| {
            let _ = take_body(&mut buffer).is_ok();
            let _ = Hello::decode(&bytes).is_ok();
            let _ = Hello::decode(after).is_ok();
            let _ = decode_answer(&bytes).is_ok();
            if let Some(head) = bytes.first_chunk::<HEADER_BYTES>() {
                let _ = Header::decode(head, Purpose::Raft).is_ok();
                let _ = Header::decode(&resealed(*head), Purpose::Raft).is_ok();
            }
        });
        prop_assert!(heap.bytes_max <= DECODE_HEAP_MAX, "{} bytes", heap.bytes_max);
    }
}
