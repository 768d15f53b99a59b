//! RSA signatures as kubeadm's CAs make them (RSASSA-PKCS1-v1_5 with SHA-256), verified by the book
//! (RFC 8017 §8.2.2) without OpenSSL: initialising it takes longer than all else that `check` does on a node.
//!
//! Only a yes counts. It takes the one encoded message that the standard allows, compared as a whole; everything
//! else, a no too, is OpenSSL's to judge. There are no secrets here, hence no constant time.

use num_bigint::BigUint;
use openssl::sha::Sha256;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// `SEQUENCE { SEQUENCE { sha256, NULL }, OCTET STRING (32 bytes follow) }` (RFC 8017 §9.2, note 1).
const SHA256_INFO: [u8; 19] = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
/// What every CA uses (F4). Others go to OpenSSL, which knows what to think of them.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// Bytes of the modulus: 2048 to 4096 bits.
const SIZES: std::ops::RangeInclusive<usize> = 256..=512;

/// A public key that [`verify`](Self::verify) is made for.
pub(super) struct Key {
    modulus: BigUint,
    /// Bytes of the modulus.
    size: usize,
}

impl Key {
    /// None for every other kind of key.
    pub(super) fn from_spki(spki: &[u8]) -> Option<Self> {
        const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).ok()?;
        if info.algorithm.algorithm.to_id_string() != RSA_ENCRYPTION {
            return None;
        }
        let PublicKey::RSA(rsa) = info.parsed().ok()? else { return None };
        let modulus = BigUint::from_bytes_be(rsa.modulus);
        let size = usize::try_from(modulus.bits().div_ceil(8)).ok()?;
        let usual = SIZES.contains(&size) && modulus.bit(0) && rsa.exponent == EXPONENT;
        usual.then_some(Self { modulus, size })
    }

    /// Whether `signature` is this key's over `message`, by PKCS #1 v1.5 with SHA-256.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let s = BigUint::from_bytes_be(signature);
        if signature.len() != self.size || s >= self.modulus {
            return false;
        }
        // s^65537 = s^(2^16) · s; squaring by hand is three times as fast as modpow(), which is made for long exponents
        let square = (0..16).fold(s.clone(), |x, _| &x * &x % &self.modulus);
        square * s % &self.modulus == BigUint::from_bytes_be(&self.encoded(message))
    }

    /// EMSA-PKCS1-v1_5: 00 01 FF…FF 00, then what the digest is and the digest.
    fn encoded(&self, message: &[u8]) -> Vec<u8> {
        // this form of OpenSSL's SHA-256 needs no initialisation
        let mut sha = Sha256::new();
        sha.update(message);
        let digest = sha.finish();
        let padding = self.size - SHA256_INFO.len() - digest.len() - 3;
        let mut encoded = vec![0, 1];
        encoded.resize(2 + padding, 0xff);
        encoded.push(0);
        encoded.extend(SHA256_INFO);
        encoded.extend(digest);
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::{Padding, Rsa};
    use openssl::sign::Signer;

    fn key(bits: u32) -> (PKey<Private>, Key) {
        let private = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let public = Key::from_spki(&private.public_key_to_der().unwrap()).unwrap();
        (private, public)
    }

    fn signature(key: &PKey<Private>, digest: MessageDigest, message: &[u8]) -> Vec<u8> {
        Signer::new(digest, key).unwrap().sign_oneshot_to_vec(message).unwrap()
    }

    #[test]
    fn what_openssl_signs_is_verified_and_nothing_else() {
        for bits in [2048, 2056, 3072] {
            let ((private, public), (_, other)) = (key(bits), key(bits));
            let good = signature(&private, MessageDigest::sha256(), b"message");
            assert!(public.verify(b"message", &good));
            assert!(!public.verify(b"massage", &good));
            assert!(!other.verify(b"message", &good));
            for at in [0, 1, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(!public.verify(b"message", &bad));
            }
            assert!(!public.verify(b"message", &[]));
            assert!(!public.verify(b"message", &[&[0], good.as_slice()].concat()), "one byte too long");
            let sha1 = signature(&private, MessageDigest::sha1(), b"message");
            assert!(!public.verify(b"message", &sha1), "another digest");
        }
    }

    #[test]
    fn a_signature_is_below_the_modulus() {
        let (private, public) = key(2048);
        let good = BigUint::from_bytes_be(&signature(&private, MessageDigest::sha256(), b"m"));
        let same = (good + &public.modulus).to_bytes_be();
        assert!(!public.verify(b"m", &same));
    }

    #[test]
    fn padding_that_is_short_or_followed_by_rubbish_is_refused() {
        // Bleichenbacher's forgery of 2006: the digest is right, what surrounds it is not
        let (private, public) = key(2048);
        let good = public.encoded(b"message");
        let info = good[good.len() - 51..].to_vec();
        let short = [&[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], info.as_slice(), &[0; 194]].concat();
        let mut kind = good.clone();
        kind[1] = 2;
        let mut hole = good.clone();
        hole[20] = 0;
        for (encoded, want) in [(good, true), (short, false), (kind, false), (hole, false)] {
            let mut forged = vec![0; 256];
            private.rsa().unwrap().private_encrypt(&encoded, &mut forged, Padding::NONE).unwrap();
            assert_eq!(public.verify(b"message", &forged), want, "{encoded:x?}");
        }
    }

    #[test]
    fn unusual_keys_are_left_to_openssl() {
        let spki = |k: PKey<Private>| k.public_key_to_der().unwrap();
        let rsa = |bits, e: u32| Rsa::generate_with_e(bits, &openssl::bn::BigNum::from_u32(e).unwrap()).unwrap();
        assert!(Key::from_spki(&spki(PKey::from_rsa(rsa(1024, 65537)).unwrap())).is_none(), "short");
        assert!(Key::from_spki(&spki(PKey::from_rsa(rsa(2048, 3)).unwrap())).is_none(), "another exponent");
        assert!(Key::from_spki(&spki(PKey::generate_ed25519().unwrap())).is_none(), "not RSA");
        assert!(Key::from_spki(b"").is_none());
    }
}
