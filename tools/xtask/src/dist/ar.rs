//! Archives of `ar`, which Debian packages are: a few files behind headers of text. Pure.

/// What every archive begins with.
const MAGIC: &[u8] = b"!<arch>\n";
/// Bytes of a name.
const NAME_BYTES: usize = 16;

/// One file of an archive.
pub struct Member<'a> {
    /// Its name, of 16 bytes at most.
    pub name: &'a str,
    /// Its contents.
    pub bytes: &'a [u8],
}

/// The archive of these files, all of root's and from `seconds` after 1970.
pub fn archive(members: &[Member<'_>], seconds: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for Member { name, bytes } in members {
        assert!(name.len() <= NAME_BYTES, "{name} is too long a name");
        let length = bytes.len();
        let header = format!(
            "{name:<16}{seconds:<12}{:<6}{:<6}{:<8}{length:<10}`\n",
            0, 0, 100_644
        );
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        if length % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_at_even_places_behind_headers_of_60_bytes() {
        let members = [
            Member {
                name: "debian-binary",
                bytes: b"2.0\n",
            },
            Member {
                name: "odd",
                bytes: b"abc",
            },
            Member {
                name: "last",
                bytes: b"",
            },
        ];
        let archive = archive(&members, 1_700_000_000);
        assert_eq!(archive.len(), 8 + (60 + 4) + (60 + 4) + 60);
        let text = String::from_utf8(archive).unwrap();
        let first = "debian-binary   1700000000  0     0     100644  4         `\n2.0\n";
        assert_eq!(&text[8..8 + 64], first);
        assert!(text[8 + 64..].starts_with("odd "));
        assert!(text.ends_with("`\n"));
    }
}
