//! A PEM file in which a leaf or a key is exchanged, and everything else stays: the chain behind the leaf, what people wrote
//! beside it, further blocks.

use zeroize::Zeroizing;

use super::{Block, blocks};

/// What is exchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct New<'a> {
    /// PEM, for the first certificate.
    pub leaf: Option<&'a [u8]>,
    /// PEM, for the first private key.
    pub key: Option<&'a [u8]>,
}

/// How `openssl x509 -text` begins its description of the certificate that follows.
const DESCRIPTION: &[u8] = b"Certificate:";
/// Of a key on a curve, which OpenSSL writes before it.
const PARAMETERS: &str = "EC PARAMETERS";

/// `old` with the new ones in their places; the new ones alone where `old` is damaged or has no such place.
pub fn successor(old: &[u8], new: New<'_>) -> Zeroizing<Vec<u8>> {
    exchanged(old, new).unwrap_or_else(|| {
        let mut whole = Zeroizing::new(Vec::with_capacity(length(&new) + 2));
        for part in [new.leaf, new.key].into_iter().flatten() {
            push(&mut whole, part);
        }
        whole
    })
}

fn length(new: &New<'_>) -> usize {
    new.leaf.map_or(0, <[u8]>::len) + new.key.map_or(0, <[u8]>::len)
}

fn exchanged(old: &[u8], new: New<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let (mut leaf, mut key) = (new.leaf, new.key);
    // at full size from the start: a buffer that grows leaves copies of a key behind
    let mut out = Zeroizing::new(Vec::with_capacity(old.len() + length(&new) + 4));
    let mut at = 0;
    let mut before = old;
    for block in blocks(old) {
        let block = block.ok()?;
        let text = old.get(at..block.start)?;
        at = block.end;
        before = old.get(at..)?;
        let place = if block.label == "CERTIFICATE" {
            leaf.take()
        } else if block.is_private_key() {
            key.take()
        } else {
            None
        };
        // the description is of what goes, and the parameters are of the key that goes
        match place {
            Some(new) => {
                out.extend_from_slice(undescribed(text));
                push(&mut out, new);
            }
            None if block.label == PARAMETERS && key.is_some() => out.extend_from_slice(text),
            None => out.extend_from_slice(old.get(block.start - text.len()..block.end)?),
        }
    }
    out.extend_from_slice(before);
    (leaf.is_none() && key.is_none()).then_some(out)
}

fn push(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(part);
    if !part.ends_with(b"\n") {
        out.push(b'\n');
    }
}

/// Without OpenSSL's description of a certificate, which goes from its first line to the block.
fn undescribed(text: &[u8]) -> &[u8] {
    let mut at = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(DESCRIPTION) {
            return text.get(..at).unwrap_or(text);
        }
        at += line.len();
    }
    text
}

/// What a file holds besides leaf and key: comments, and blocks of other kinds.
pub fn besides(file: &[u8]) -> Vec<&[u8]> {
    let (mut found, mut at) = (Vec::new(), 0);
    let is_comment = |line: &&[u8]| line.trim_ascii_start().starts_with(b"#");
    let comments = |text: &'_ [u8]| {
        text.split(|b| *b == b'\n').filter(is_comment).map(<[u8]>::trim_ascii).map(<[u8]>::len).sum::<usize>() > 0
    };
    for block in blocks(file).map_while(Result::ok) {
        let text = file.get(at..block.start).unwrap_or_default();
        if comments(text) {
            found.extend(text.split(|b| *b == b'\n').filter(is_comment).map(<[u8]>::trim_ascii));
        }
        at = block.end;
        if is_other(&block) {
            found.extend(file.get(block.start..block.end).map(<[u8]>::trim_ascii));
        }
    }
    let rest = file.get(at..).unwrap_or_default();
    found.extend(rest.split(|b| *b == b'\n').filter(is_comment).map(<[u8]>::trim_ascii));
    found
}

fn is_other(block: &Block<'_>) -> bool {
    block.label != "CERTIFICATE" && block.label != PARAMETERS && !block.is_private_key()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# ours\nCertificate:\n    Data: old\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n# the CA\n\
                       -----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n-----BEGIN EC PARAMETERS-----\nCCCC\n\
                       -----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nDDDD\n-----END EC PRIVATE KEY-----\n\
                       -----BEGIN X509 CRL-----\nEEEE\n-----END X509 CRL-----\n# end";
    const LEAF: &[u8] = b"-----BEGIN CERTIFICATE-----\nFFFF\n-----END CERTIFICATE-----\n";
    const KEY: &[u8] = b"-----BEGIN RSA PRIVATE KEY-----\nGGGG\n-----END RSA PRIVATE KEY-----";

    #[test]
    fn leaf_and_key_are_exchanged_and_all_else_stays() {
        let new = successor(OLD.as_bytes(), New { leaf: Some(LEAF), key: Some(KEY) });
        let wanted = "# ours\n-----BEGIN CERTIFICATE-----\nFFFF\n-----END CERTIFICATE-----\n# the CA\n\
                      -----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nGGGG\n\
                      -----END RSA PRIVATE KEY-----\n-----BEGIN X509 CRL-----\nEEEE\n-----END X509 CRL-----\n# end";
        assert_eq!(std::str::from_utf8(&new).unwrap(), wanted);
        let leaf_only = successor(OLD.as_bytes(), New { leaf: Some(LEAF), key: None });
        assert!(std::str::from_utf8(&leaf_only).unwrap().contains("DDDD"), "the key stays");
        assert_eq!(besides(OLD.as_bytes()), besides(&new));
        assert_eq!(besides(OLD.as_bytes()).len(), 4);
    }

    #[test]
    fn what_is_damaged_or_something_else_is_replaced_as_a_whole() {
        for old in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n", "-----BEGIN A-----\n-----END A-----\n"] {
            assert_eq!(successor(old.as_bytes(), New { leaf: Some(LEAF), key: None }).as_slice(), LEAF, "{old}");
        }
    }
}
