//! RSA signatures as kubeadm's CAs make them (RSASSA-PKCS1-v1_5 with SHA-256), verified by the book
//! (RFC 8017 §8.2.2) without OpenSSL: initialising it takes longer than all else that `check` does on a node.
//!
//! Only a yes counts. It takes the one encoded message that the standard allows, compared as a whole; everything
//! else, a no too, is OpenSSL's to judge. There are no secrets here, hence no constant time.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U2048, U3072, U4096, Uint};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// `SEQUENCE { SEQUENCE { sha256, NULL }, OCTET STRING (32 bytes follow) }` (RFC 8017 §9.2, note 1).
const SHA256_INFO: [u8; 19] = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
/// What every CA uses (F4 = 2^16 + 1). Others go to OpenSSL, which knows what to think of them.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// A public key that [`verify`](Self::verify) is made for.
pub(super) struct Key {
    /// Bytes of the modulus.
    size: usize,
    modulus: Modulus,
}

/// The sizes that kubeadm makes (kubernetes: `cmd/kubeadm/app/util/pkiutil/pki_helpers.go:rsaKeySizeFromAlgorithmType`),
/// each prepared for Montgomery's multiplication.
enum Modulus {
    Bits2048(Box<FixedMontyParams<{ U2048::LIMBS }>>),
    Bits3072(Box<FixedMontyParams<{ U3072::LIMBS }>>),
    Bits4096(Box<FixedMontyParams<{ U4096::LIMBS }>>),
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
        if rsa.exponent != EXPONENT {
            return None;
        }
        // DER's sign byte: the highest bit of a modulus is set, or it is of no usual size
        let bytes = rsa.modulus.strip_prefix(&[0]).filter(|b| b.first().is_some_and(|b| *b >= 0x80))?;
        let modulus = match bytes.len() * 8 {
            2048 => Modulus::Bits2048(prepare(bytes)?),
            3072 => Modulus::Bits3072(prepare(bytes)?),
            4096 => Modulus::Bits4096(prepare(bytes)?),
            _ => return None,
        };
        Some(Self { size: bytes.len(), modulus })
    }

    /// Whether `signature` is this key's over `message`, by PKCS #1 v1.5 with SHA-256.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let encoded = self.encoded(message);
        match &self.modulus {
            Modulus::Bits2048(params) => raises_to(params, signature, &encoded),
            Modulus::Bits3072(params) => raises_to(params, signature, &encoded),
            Modulus::Bits4096(params) => raises_to(params, signature, &encoded),
        }
    }

    /// EMSA-PKCS1-v1_5: 00 01 FF…FF 00, then what the digest is and the digest.
    fn encoded(&self, message: &[u8]) -> Vec<u8> {
        let digest = Sha256::digest(message);
        let padding = self.size - SHA256_INFO.len() - digest.len() - 3;
        let mut encoded = vec![0, 1];
        encoded.resize(2 + padding, 0xff);
        encoded.push(0);
        encoded.extend(SHA256_INFO);
        encoded.extend(digest);
        encoded
    }
}

/// `modulus` is as long as `N` words.
fn prepare<const N: usize>(modulus: &[u8]) -> Option<Box<FixedMontyParams<N>>> {
    let modulus = Odd::new(Uint::from_be_slice(modulus)).into_option()?;
    Some(Box::new(FixedMontyParams::new_vartime(modulus)))
}

/// Whether `signature` is a number below the modulus whose 65537th power is `encoded`.
fn raises_to<const N: usize>(params: &FixedMontyParams<N>, signature: &[u8], encoded: &[u8]) -> bool {
    if signature.len() != encoded.len() {
        return false;
    }
    let s = Uint::from_be_slice(signature);
    if s >= *params.modulus().as_ref() {
        return false;
    }
    let s = FixedMontyForm::new(&s, params);
    (s.square_repeat_vartime(16) * s).retrieve() == Uint::from_be_slice(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::bn::BigNum;
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
        for bits in [2048, 3072, 4096] {
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
        let modulus = private.rsa().unwrap().n().to_owned().unwrap();
        // a message whose signature leaves room for the modulus in as many bytes
        let found = (0..100u8).find_map(|i| {
            let good = BigNum::from_slice(&signature(&private, MessageDigest::sha256(), &[i])).unwrap();
            let same = (&good + &modulus).to_vec();
            (same.len() == 256).then_some(([i], same))
        });
        let (message, same) = found.unwrap();
        assert!(!public.verify(&message, &same));
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
        let rsa = |bits, e: u32| Rsa::generate_with_e(bits, &BigNum::from_u32(e).unwrap()).unwrap();
        for bits in [1024, 2040, 2056] {
            assert!(Key::from_spki(&spki(PKey::from_rsa(rsa(bits, 65537)).unwrap())).is_none(), "{bits} bits");
        }
        assert!(Key::from_spki(&spki(PKey::from_rsa(rsa(2048, 3)).unwrap())).is_none(), "another exponent");
        assert!(Key::from_spki(&spki(PKey::generate_ed25519().unwrap())).is_none(), "not RSA");
        assert!(Key::from_spki(b"").is_none());
    }
}
