//! Zstandard (RFC 8878): one frame without a dictionary, with a window that every consumer grants, nothing behind it.
//!
//! kafka-python decompresses the first frame only, so a second one would be records for some and nothing for others.
//! Windows above 128 MiB are refused by libzstd's default, which is Java's too.

use zstd::zstd_safe::{self, DCtx, InBuffer, OutBuffer, ResetDirective};

use super::super::compression::{Compression, CompressionError, corrupt};
use super::PIECE_BYTES;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// `ZSTD_WINDOWLOG_LIMIT_DEFAULT`.
const WINDOW_BYTES_MAX: u64 = 1 << 27;
/// A frame that says that it holds no more than this is decompressed in one go: that needs no window.
const WHOLE_BYTES_MAX: u64 = 1 << 20;
/// A decoder without its window: tables, one block in and one out.
const CONTEXT_BYTES: usize = 512 << 10;

fn not_portable<T>(reason: &'static str) -> Result<T, CompressionError> {
    Err(CompressionError::NotPortable {
        codec: Compression::Zstd,
        reason,
    })
}

/// What the front of a frame says.
struct Front {
    window_bytes: u64,
    content_bytes: Option<u64>,
}

impl Front {
    fn parse(payload: &[u8]) -> Result<Front, CompressionError> {
        let cut = || corrupt(Compression::Zstd, "no frame header");
        let Some((&MAGIC, rest)) = payload.split_first_chunk::<4>() else {
            return Err(cut());
        };
        let (&descriptor, mut rest) = rest.split_first().ok_or_else(cut)?;
        let single_segment = descriptor & 0x20 != 0;
        let mut window_bytes = 0;
        if !single_segment {
            let (&window, behind) = rest.split_first().ok_or_else(cut)?;
            let base = 1u64 << (10 + (window >> 3));
            window_bytes = base + base / 8 * u64::from(window & 7);
            rest = behind;
        }
        let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let (dictionary, rest) = rest.split_at_checked(dictionary_bytes).ok_or_else(cut)?;
        if dictionary.iter().any(|byte| *byte != 0) {
            return not_portable("a dictionary");
        }
        let size_bytes = match descriptor >> 6 {
            0 => usize::from(single_segment),
            shift => 1 << shift,
        };
        let size = rest.get(..size_bytes).ok_or_else(cut)?;
        let mut number = [0; 8];
        number[..size_bytes].copy_from_slice(size);
        // Two bytes count from 256, as fewer need only one.
        let number = u64::from_le_bytes(number) + if size_bytes == 2 { 256 } else { 0 };
        let content_bytes = (size_bytes > 0).then_some(number);
        if single_segment {
            window_bytes = number;
        }
        if window_bytes > WINDOW_BYTES_MAX {
            return not_portable("a window above 128 MiB");
        }
        Ok(Front {
            window_bytes,
            content_bytes,
        })
    }
}

/// The header, and that the frame ends where the payload does; the sizes of its blocks say so without decompressing.
pub(super) fn check_frame(payload: &[u8]) -> Result<(), CompressionError> {
    Front::parse(payload)?;
    let size = zstd_safe::find_frame_compressed_size(payload)
        .map_err(|code| corrupt(Compression::Zstd, zstd_safe::get_error_name(code)))?;
    if size < payload.len() {
        return not_portable("bytes behind the first frame");
    }
    Ok(())
}

pub(super) fn memory_bytes(payload: &[u8]) -> Result<usize, CompressionError> {
    let front = Front::parse(payload)?;
    let window_bytes = front
        .content_bytes
        .map_or(front.window_bytes, |size| size.min(front.window_bytes));
    let window_bytes = usize::try_from(window_bytes)
        .expect("a window fits into memory's address space: it was bounded");
    Ok(window_bytes + CONTEXT_BYTES)
}

pub(super) struct Zstd<'a> {
    context: DCtx<'static>,
    rest: &'a [u8],
    /// The size of a small frame that says it.
    whole_bytes: Option<usize>,
}

impl<'a> Zstd<'a> {
    pub(super) fn new(
        payload: &'a [u8],
        context: Option<DCtx<'static>>,
    ) -> Result<Zstd<'a>, CompressionError> {
        let codec = Compression::Zstd;
        let front = Front::parse(payload)?;
        let mut context = context
            .or_else(DCtx::try_create)
            .ok_or_else(|| corrupt(codec, "no memory for a decoder"))?;
        context
            .reset(ResetDirective::SessionOnly)
            .map_err(|code| corrupt(codec, zstd_safe::get_error_name(code)))?;
        let whole_bytes = front
            .content_bytes
            .filter(|size| *size <= WHOLE_BYTES_MAX)
            .map(|size| usize::try_from(size).expect("it was bounded"));
        Ok(Zstd {
            context,
            rest: payload,
            whole_bytes,
        })
    }

    /// Appends the next piece. Whether the frame has ended, and how much input was taken.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<(bool, usize), CompressionError> {
        match self.whole_bytes {
            Some(bytes) => self.read_whole(bytes, out),
            None => self.read_piece(out),
        }
    }

    fn read_whole(
        &mut self,
        bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(bool, usize), CompressionError> {
        let failed = |code| corrupt(Compression::Zstd, zstd_safe::get_error_name(code));
        let size = zstd_safe::find_frame_compressed_size(self.rest).map_err(failed)?;
        if size < self.rest.len() {
            return not_portable("bytes behind the first frame");
        }
        let start = out.len();
        out.resize(start + bytes, 0);
        let written = self
            .context
            .decompress(&mut out[start..], self.rest)
            .map_err(failed)?;
        out.truncate(start + written);
        Ok((true, std::mem::take(&mut self.rest).len()))
    }

    fn read_piece(&mut self, out: &mut Vec<u8>) -> Result<(bool, usize), CompressionError> {
        let codec = Compression::Zstd;
        let (piece, _) = self.rest.split_at(self.rest.len().min(PIECE_BYTES));
        let start = out.len();
        out.resize(start + PIECE_BYTES, 0);
        let mut input = InBuffer::around(piece);
        let mut output = OutBuffer::around(&mut out[start..]);
        let result = self.context.decompress_stream(&mut output, &mut input);
        let (taken, written) = (input.pos(), output.pos());
        out.truncate(start + written);
        let hint = result.map_err(|code| corrupt(codec, zstd_safe::get_error_name(code)))?;
        self.rest = &self.rest[taken..];
        if hint == 0 {
            return if self.rest.is_empty() {
                Ok((true, taken))
            } else {
                not_portable("bytes behind the first frame")
            };
        }
        if taken == 0 && written == 0 {
            return Err(corrupt(codec, "the frame is cut off"));
        }
        Ok((false, taken))
    }

    pub(super) fn into_context(self) -> DCtx<'static> {
        self.context
    }
}
