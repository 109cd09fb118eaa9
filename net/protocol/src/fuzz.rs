//! The codec's fuzzer: mutates valid frames of every API and version, and checks what the decoder makes of them.
//!
//! Pure and deterministic: the same seed runs the same cases. It needs nothing but a stable compiler, so it runs in
//! CI; `check_request` and `check_response` also serve as the body of a coverage-guided fuzz target.
//! A case fails if what was decoded does not survive encoding and decoding again. A panic fails by itself.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::api::{APIS, ApiKey, Request, Response};
use crate::frame::{
    FRAME_LENGTH_BYTES, decode_response, encode_request, encode_response, parse_request,
};
use crate::header::RequestHeader;
use crate::sample::Rng;
use crate::text::Text;

/// Valid frames of each API, version and direction that mutation starts from.
const CORPUS_PER_VERSION: usize = 4;
/// Most mutations of one frame.
const MUTATIONS_MAX: usize = 6;
/// Most bytes that one mutation inserts.
const INSERTION_BYTES_MAX: usize = 64;
/// Lengths and counts that break decoders.
const LENGTHS: [i32; 14] = [
    0,
    -1,
    -2,
    1,
    2,
    127,
    128,
    255,
    i16::MAX as i32,
    i16::MIN as i32,
    1_000_000,
    1_000_001,
    i32::MAX,
    i32::MIN,
];

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A message.
    Accepted,
    /// Not a message, and said so.
    Refused,
}

/// A frame that was decoded to something that does not survive encoding.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("seed {seed}, case {case}: {subject}: {what}; frame {frame}")]
pub struct FuzzFailure {
    /// Seed of the run; 0 for a single check.
    pub seed: u64,
    /// Number of the case in its run.
    pub case: u64,
    /// What was being decoded.
    pub subject: String,
    /// What went wrong.
    pub what: String,
    /// The bytes, in hexadecimal.
    pub frame: String,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FuzzReport {
    /// Frames tried.
    pub cases: u64,
    /// Frames that were messages in spite of the mutation.
    pub accepted: u64,
}

/// Checks one request frame (without length prefix).
pub fn check_request(frame: &[u8]) -> Result<Verdict, FuzzFailure> {
    let Ok((header, request)) = parse_request(Bytes::copy_from_slice(frame)) else {
        return Ok(Verdict::Refused);
    };
    let again = encode_request(&header, &request)
        .map_err(|error| error.to_string())
        .and_then(|slices| parse_request(body_of(&slices)).map_err(|error| error.to_string()));
    compare("request", frame, (header, request), again)
}

/// Checks one response frame (without length prefix).
pub fn check_response(key: ApiKey, version: i16, frame: &[u8]) -> Result<Verdict, FuzzFailure> {
    let Ok((correlation_id, response)) =
        decode_response(key, version, Bytes::copy_from_slice(frame))
    else {
        return Ok(Verdict::Refused);
    };
    let again = encode_response(correlation_id, version, &response)
        .map_err(|error| error.to_string())
        .and_then(|slices| {
            decode_response(key, version, body_of(&slices)).map_err(|error| error.to_string())
        });
    compare("response", frame, (correlation_id, response), again)
}

fn compare<T: PartialEq + fmt::Debug>(
    subject: &str,
    frame: &[u8],
    first: T,
    again: Result<T, String>,
) -> Result<Verdict, FuzzFailure> {
    let what = match again {
        Ok(second) if second == first => return Ok(Verdict::Accepted),
        Ok(second) => format!("{first:?} became {second:?}"),
        Err(error) => format!("{first:?}: {error}"),
    };
    Err(FuzzFailure {
        seed: 0,
        case: 0,
        subject: subject.to_owned(),
        what,
        frame: frame.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// The slices of a frame as one, without the length prefix.
fn body_of(slices: &[Bytes]) -> Bytes {
    Bytes::from(slices.concat()).split_off(FRAME_LENGTH_BYTES)
}

/// Which way a frame of the corpus travels.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Request,
    Response,
}

#[derive(Clone, Debug)]
struct Seedling {
    direction: Direction,
    key: ApiKey,
    version: i16,
    frame: Vec<u8>,
}

/// A corpus and the generator that mutates it.
#[derive(Clone, Debug)]
pub struct Fuzzer {
    seed: u64,
    rng: Rng,
    corpus: Vec<Seedling>,
    report: FuzzReport,
}

impl Fuzzer {
    /// Builds the corpus of a seed: some frames of every API and version, both ways.
    pub fn new(seed: u64) -> Fuzzer {
        let mut rng = Rng::new(seed);
        let mut corpus = Vec::new();
        for api in APIS {
            for version in api.versions.iter() {
                for _ in 0..CORPUS_PER_VERSION {
                    for direction in [Direction::Request, Direction::Response] {
                        corpus.extend(seedling(&mut rng, direction, api.key, version));
                    }
                }
            }
        }
        Fuzzer {
            seed,
            rng,
            corpus,
            report: FuzzReport::default(),
        }
    }

    /// What has been done so far.
    pub fn report(&self) -> FuzzReport {
        self.report
    }

    /// Tries one mutated frame.
    pub fn step(&mut self) -> Result<Verdict, FuzzFailure> {
        let chosen = self.rng.below(self.corpus.len());
        let Seedling {
            direction,
            key,
            version,
            mut frame,
        } = self.corpus[chosen].clone();
        for _ in 0..=self.rng.below(MUTATIONS_MAX) {
            self.mutate(&mut frame);
        }
        let verdict = match direction {
            Direction::Request => check_request(&frame),
            Direction::Response => check_response(key, version, &frame),
        };
        let case = self.report.cases;
        self.report.cases += 1;
        let verdict = verdict.map_err(|failure| FuzzFailure {
            seed: self.seed,
            case,
            subject: format!("{key} version {version} {}", failure.subject),
            ..failure
        })?;
        if verdict == Verdict::Accepted {
            self.report.accepted += 1;
        }
        Ok(verdict)
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let at = rng.below(frame.len() + 1);
        match rng.below(8) {
            0 => frame.truncate(at),
            1 => flip_bit(frame, at, rng),
            2 => overwrite(frame, at, &[rng.bits() as u8]),
            3 => overwrite(frame, at, &LENGTHS[rng.below(LENGTHS.len())].to_be_bytes()),
            4 => {
                let length = LENGTHS[rng.below(LENGTHS.len())] as i16;
                overwrite(frame, at, &length.to_be_bytes());
            }
            5 => {
                // The longest varints, and one byte more than any may have.
                let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff];
                let from = rng.below(bytes.len());
                overwrite(frame, at, &bytes[from..]);
            }
            6 => {
                let count = rng.below(INSERTION_BYTES_MAX);
                let noise: Vec<u8> = (0..count).map(|_| rng.bits() as u8).collect();
                frame.splice(at..at, noise);
            }
            _ => {
                // The tail of another frame: fields of one schema read by another.
                let other = &self.corpus[rng.below(self.corpus.len())].frame;
                let from = rng.below(other.len() + 1);
                frame.truncate(at);
                frame.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// Runs cases until `keep_going`, which is told what has been done, says no.
pub fn run(
    seed: u64,
    mut keep_going: impl FnMut(FuzzReport) -> bool,
) -> Result<FuzzReport, FuzzFailure> {
    let mut fuzzer = Fuzzer::new(seed);
    while keep_going(fuzzer.report()) {
        fuzzer.step()?;
    }
    Ok(fuzzer.report())
}

fn seedling(rng: &mut Rng, direction: Direction, key: ApiKey, version: i16) -> Option<Seedling> {
    let correlation_id = rng.bits() as i32;
    let slices = match direction {
        Direction::Request => {
            let header = RequestHeader {
                api_key: key,
                api_version: version,
                correlation_id,
                client_id: Some(Text::from_static("fuzzer")),
            };
            encode_request(&header, &Request::sample(key, rng, version))
        }
        Direction::Response => encode_response(
            correlation_id,
            version,
            &Response::sample(key, rng, version),
        ),
    };
    let frame = body_of(&slices.ok()?).to_vec();
    Some(Seedling {
        direction,
        key,
        version,
        frame,
    })
}

fn flip_bit(frame: &mut [u8], at: usize, rng: &mut Rng) {
    if let Some(byte) = frame.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

/// Writes `bytes` over what is there, as far as the frame goes.
fn overwrite(frame: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in frame.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}
