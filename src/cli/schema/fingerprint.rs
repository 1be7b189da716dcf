//! `schema fingerprint` and `schema canonical`.

use md5::Md5;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::text;
use crate::cli::args::Algorithm;
use crate::cli::context::Context;
use crate::cli::failure::Done;
use crate::cli::output::safe;

pub(super) async fn run(context: &mut Context, algorithm: Algorithm, asked: &[String]) -> Done {
    let mut all = Vec::new();
    for found in text::together(context, asked).await? {
        let fingerprint = hex(&fingerprint(algorithm, &found.schema.canonical()));
        match context.out.json {
            true => all.push(json!({
                "schema": found.name, "name": found.schema.name(), "algorithm": algorithm.name(),
                "fingerprint": fingerprint,
            })),
            false => context.out.line(&format!("{fingerprint}  {}", safe(&found.name)))?,
        }
    }
    if context.out.json {
        context.out.json_pretty(&all.into())?;
    }
    Ok(())
}

pub(super) async fn canonical(context: &mut Context, asked: &[String]) -> Done {
    let all = match asked {
        // Of a topic or a subject the newest.
        [one] if text::is_kept(one) => vec![text::one(context, one).await?],
        several => text::together(context, several).await?,
    };
    for found in all {
        // The text itself, to the byte, is what it is about; names and symbols hold no control characters.
        context.out.line(&found.schema.canonical())?;
    }
    Ok(())
}

/// By the specification: of the canonical form's bytes. CRC-64 as a number's digits, most significant first.
fn fingerprint(algorithm: Algorithm, canonical: &str) -> Vec<u8> {
    match algorithm {
        Algorithm::Crc64 => gretchen_schema::fingerprint(canonical).to_be_bytes().to_vec(),
        Algorithm::Md5 => Md5::digest(canonical).to_vec(),
        Algorithm::Sha256 => Sha256::digest(canonical).to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fingerprints of `"int"` and `"string"`, as apache/avro's `share/test/data/schema-tests.txt` and Java have them.
    #[test]
    fn fingerprints_are_those_of_the_specification() {
        let of = |algorithm, canonical| hex(&fingerprint(algorithm, canonical));
        assert_eq!(of(Algorithm::Crc64, "\"int\""), "7275d51a3f395c8f");
        assert_eq!(of(Algorithm::Md5, "\"int\""), "ef524ea1b91e73173d938ade36c1db32");
        assert_eq!(
            of(Algorithm::Sha256, "\"int\""),
            "3f2b87a9fe7cc9b13835598c3981cd45e3e355309e5090aa0933d7becb6fba45"
        );
    }
}
