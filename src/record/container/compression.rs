//! How the blocks of a container are packed.

use std::fmt;
use std::io::Read;

use super::MAX_LEN;
use crate::error::{Error, ErrorKind, Result};

/// Deflate's level that is used where nobody says another.
const DEFLATE_LEVEL: u8 = 6;

/// Length of the checksum behind a block that snappy packed.
const CRC_LEN: usize = 4;

/// Bytes that one packed byte of snappy becomes at most: an element of three stands for 64.
const SNAPPY_RATIO: usize = 22;

/// How the blocks of a container are packed: the specification's `avro.codec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    Null,
    /// Deflate (RFC 1951) without a header.
    Deflate,
    /// Snappy's block format, followed by the CRC-32 of what was packed.
    Snappy,
    /// Zstandard.
    Zstandard,
}

impl Compression {
    /// The name in a container's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }

    pub(super) fn of_name(name: &[u8]) -> Result<Self> {
        let all = [Self::Null, Self::Deflate, Self::Snappy, Self::Zstandard];
        if let Some(known) = all.into_iter().find(|known| known.name().as_bytes() == name) {
            return Ok(known);
        }
        let message = format!(
            "the container is packed with {:?}; write it anew with null, deflate, snappy or zstandard (avro-tools recodec)",
            String::from_utf8_lossy(name)
        );
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    pub(super) fn pack(self, block: &[u8]) -> Result<Vec<u8>> {
        let failed = |why: &dyn fmt::Display| {
            Error::new(ErrorKind::Encode, format!("cannot pack a block with {}: {why}", self.name()))
        };
        match self {
            Self::Null => Ok(block.to_vec()),
            Self::Deflate => Ok(miniz_oxide::deflate::compress_to_vec(block, DEFLATE_LEVEL)),
            Self::Snappy => {
                let mut packed = snap::raw::Encoder::new().compress_vec(block).map_err(|error| failed(&error))?;
                packed.extend_from_slice(&crc32fast::hash(block).to_be_bytes());
                Ok(packed)
            }
            Self::Zstandard => zstd::encode_all(block, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|error| failed(&error)),
        }
    }

    /// The block as it was; memory is taken for what comes out, not for what is claimed.
    pub(super) fn unpack(self, packed: Vec<u8>) -> Result<Vec<u8>, String> {
        match self {
            Self::Null => Ok(packed),
            Self::Deflate => miniz_oxide::inflate::decompress_to_vec_with_limit(&packed, MAX_LEN).map_err(|error| {
                match error.status {
                    miniz_oxide::inflate::TINFLStatus::HasMoreOutput => too_long(),
                    _ => error.to_string(),
                }
            }),
            Self::Snappy => unpack_snappy(&packed),
            Self::Zstandard => unpack_zstandard(&packed)
                .map_err(|error| error.to_string())
                .and_then(|block| if block.len() > MAX_LEN { Err(too_long()) } else { Ok(block) }),
        }
    }
}

fn too_long() -> String {
    format!("it has more than {MAX_LEN} bytes")
}

fn unpack_snappy(packed: &[u8]) -> Result<Vec<u8>, String> {
    let Some((packed, crc)) = packed.split_last_chunk::<CRC_LEN>() else {
        return Err("it is too short for its checksum".to_owned());
    };
    let len = snap::raw::decompress_len(packed).map_err(|error| error.to_string())?;
    if len > MAX_LEN {
        return Err(too_long());
    }
    if len > packed.len().saturating_mul(SNAPPY_RATIO) {
        return Err(format!("{} bytes cannot hold the {len} that they claim", packed.len()));
    }
    let block = snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| error.to_string())?;
    match crc32fast::hash(&block) == u32::from_be_bytes(*crc) {
        true => Ok(block),
        false => Err("its checksum is another".to_owned()),
    }
}

/// Up to one byte more than is allowed.
fn unpack_zstandard(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    // The window is at most what a block may have.
    decoder.window_log_max(MAX_LEN.ilog2())?;
    let mut block = Vec::new();
    decoder.take(MAX_LEN as u64 + 1).read_to_end(&mut block)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 4] =
        [Compression::Null, Compression::Deflate, Compression::Snappy, Compression::Zstandard];

    #[test]
    fn every_codec_gives_back_what_it_got() {
        for block in [&b""[..], b"a", &b"abc".repeat(100_000)] {
            for codec in ALL {
                let packed = codec.pack(block).unwrap();
                assert_eq!(codec.unpack(packed).unwrap(), block, "{codec:?}");
            }
        }
    }

    #[test]
    fn a_flipped_or_missing_byte_is_an_error_or_changes_nothing() {
        let block = b"all that glitters ".repeat(40);
        for codec in [Compression::Snappy, Compression::Zstandard, Compression::Deflate] {
            let packed = codec.pack(&block).unwrap();
            for at in 0..packed.len() {
                assert!(codec.unpack(packed[..at].to_vec()).is_err(), "{codec:?} cut at {at}");
            }
        }
        let packed = Compression::Snappy.pack(&block).unwrap();
        for at in 0..packed.len() {
            let mut flipped = packed.clone();
            flipped[at] ^= 0x10;
            assert!(Compression::Snappy.unpack(flipped).is_err(), "{at}");
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let large = vec![0_u8; MAX_LEN + 1];
        for codec in [Compression::Deflate, Compression::Zstandard, Compression::Snappy] {
            let error = codec.unpack(codec.pack(&large).unwrap()).unwrap_err();
            assert!(error.contains("more than"), "{codec:?}: {error}");
        }
        // Five bytes that claim 64 MiB.
        let mut claim = vec![0x80, 0x80, 0x80, 0x20, 0];
        claim.extend([0; CRC_LEN]);
        assert!(Compression::Snappy.unpack(claim).unwrap_err().contains("cannot hold"));
    }

    #[test]
    fn a_codec_that_is_not_there_is_named() {
        let error = Compression::of_name(b"bzip2").unwrap_err().to_string();
        assert!(error.contains("bzip2") && error.contains("recodec"), "{error}");
    }
}
