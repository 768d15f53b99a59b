//! Cryptography by OpenSSL: keys, signatures, chains. Key bytes are zeroed when dropped.

mod request;
mod self_made;
mod sign;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;

use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509StoreContext};

pub use request::{Filed, Subject, is_self_signed_request, new_request, sign_client};
pub use self_made::make_like;
pub use sign::{Signed, can_sign_like, sign_like};

/// Why a key or a certificate was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    #[error("not a private key that can be read")]
    Key {
        #[source]
        source: ErrorStack,
    },
    #[error("not a certificate that can be read")]
    Certificate {
        #[source]
        source: ErrorStack,
    },
    #[error("no certificate in it")]
    NoCertificate,
    /// No path to a certificate in the bundle: another issuer, or a signature that does not fit.
    #[error("does not chain to the CA: {detail}")]
    Chain { detail: String },
    /// It chains, but the leaf or a CA above it is not valid at that time.
    #[error("{} {detail}", if *.leaf { "the certificate" } else { "its CA" })]
    OutOfDate { leaf: bool, detail: String },
    /// It chains, but must not be used for this.
    #[error("is not made for {purpose}")]
    Purpose { purpose: &'static str },
    #[error("the CA's key does not belong to any certificate of the CA")]
    CaKeyMismatch,
    #[error("cannot be re-issued: {detail}")]
    Unsupported { detail: String },
    #[error("OpenSSL failed to {what}")]
    OpenSsl {
        what: &'static str,
        #[source]
        source: ErrorStack,
    },
}

impl CryptoError {
    pub(crate) fn openssl(what: &'static str) -> impl FnOnce(ErrorStack) -> Self {
        move |source| Self::OpenSsl { what, source }
    }
}

/// At which time a chain must hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    Time(Timestamp),
    /// Only who signed whom matters: an expired certificate can still be of the right issuer.
    AnyTime,
}

/// What a certificate must be usable for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    Server,
    Client,
    Any,
}

/// Reads a private key in any PEM form (PKCS#1, PKCS#8, SEC1). Certificates around it are passed over.
///
/// # Errors
/// [`CryptoError::Key`]; also for an encrypted key.
pub(crate) fn private_key(pem: &[u8]) -> Result<PKey<Private>, CryptoError> {
    // without a callback OpenSSL asks for the passphrase on the terminal, and a daemon would hang there
    // (PEM_read_bio_PrivateKey(3): PEM_def_callback)
    PKey::private_key_from_pem_callback(pem, |_| Ok(0)).map_err(|source| CryptoError::Key { source })
}

/// All certificates of a PEM file or a single DER one, in their order.
///
/// # Errors
/// [`CryptoError::Certificate`], [`CryptoError::NoCertificate`].
pub(crate) fn certificates(pem_or_der: &[u8]) -> Result<Vec<X509>, CryptoError> {
    let is_der = pem_or_der.first() == Some(&0x30); // an ASN.1 SEQUENCE; PEM is text, and `0` does not open it
    let all = if is_der { X509::from_der(pem_or_der).map(|c| vec![c]) } else { X509::stack_from_pem(pem_or_der) };
    match all {
        Ok(list) if list.is_empty() => Err(CryptoError::NoCertificate),
        Ok(list) => Ok(list),
        Err(source) => Err(CryptoError::Certificate { source }),
    }
}

/// The subject public key info (DER) of a private key, to compare with `CertFacts::spki`.
///
/// # Errors
/// [`CryptoError::Key`].
pub fn public_key_der(key_pem: &[u8]) -> Result<Vec<u8>, CryptoError> {
    private_key(key_pem)?.public_key_to_der().map_err(|source| CryptoError::Key { source })
}

/// Whether `chain` (leaf first) leads to any certificate of the bundle and may be used for `purpose`. Every
/// certificate of the bundle is an anchor, intermediates too, as for Go's clients (crypto/x509: `VerifyOptions.Roots`).
///
/// # Errors
/// [`CryptoError::Chain`], [`CryptoError::OutOfDate`], [`CryptoError::Purpose`] say which of the three fails.
pub fn verify_chain(chain: &[u8], ca_bundle_pem: &[u8], at: At, purpose: Purpose) -> Result<(), CryptoError> {
    let whole = certificates(chain)?;
    let [leaf, rest @ ..] = whole.as_slice() else { return Err(CryptoError::NoCertificate) };
    let store = anchors(ca_bundle_pem, Some((at, purpose)))?;
    let (ok, error, depth) = walk(&store, leaf, rest).map_err(CryptoError::openssl("verify a chain"))?;
    if ok {
        return Ok(());
    }
    let detail = error.error_string().to_owned();
    Err(match error.as_raw() {
        // x509_vfy.h: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        9 => CryptoError::OutOfDate { leaf: depth == 0, detail: "is not yet valid".into() },
        10 => CryptoError::OutOfDate { leaf: depth == 0, detail: "has expired".into() },
        // X509_V_ERR_INVALID_PURPOSE; above the leaf it means: that is no CA
        26 if depth == 0 => {
            CryptoError::Purpose { purpose: if purpose == Purpose::Server { "serving" } else { "use by a client" } }
        }
        _ => CryptoError::Chain { detail },
    })
}

fn walk(
    store: &X509Store,
    leaf: &X509,
    rest: &[X509],
) -> Result<(bool, openssl::x509::X509VerifyResult, u32), ErrorStack> {
    let mut above = Stack::new()?;
    for cert in rest {
        above.push(cert.clone())?;
    }
    let mut context = X509StoreContext::new()?;
    context.init(store, leaf, &above, |c| Ok((c.verify_cert()?, c.error(), c.error_depth())))
}

/// A store that trusts the certificates of the bundle and nothing else.
pub(crate) fn anchors(ca_bundle_pem: &[u8], check: Option<(At, Purpose)>) -> Result<X509Store, CryptoError> {
    let cas = certificates(ca_bundle_pem)?;
    let build = || -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for ca in cas {
            store.add_cert(ca)?;
        }
        let mut param = X509VerifyParam::new()?;
        param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        if let Some((at, purpose)) = check {
            match at {
                At::Time(t) => param.set_time(t.as_second()),
                At::AnyTime => param.set_flags(X509VerifyFlags::NO_CHECK_TIME)?,
            }
            match purpose {
                Purpose::Server => param.set_purpose(X509PurposeId::SSL_SERVER)?,
                Purpose::Client => param.set_purpose(X509PurposeId::SSL_CLIENT)?,
                Purpose::Any => {}
            }
        }
        store.set_param(&param)?;
        Ok(store.build())
    };
    build().map_err(CryptoError::openssl("build a trust store"))
}

/// Whether one of the CA certificates has signed the (first) certificate, whatever their dates are.
///
/// # Errors
/// If either cannot be read.
pub fn is_signed_by(leaf: &[u8], ca_certs: &[u8]) -> Result<bool, CryptoError> {
    let list = certificates(leaf)?;
    let leaf = list.first().ok_or(CryptoError::NoCertificate)?;
    let signed = |ca: &X509| {
        let same_name = leaf.issuer_name().try_cmp(ca.subject_name()).is_ok_and(std::cmp::Ordering::is_eq);
        // an error here is a signature of another algorithm than the key's: not signed by it
        same_name && ca.public_key().is_ok_and(|key| leaf.verify(&key).unwrap_or(false))
    };
    Ok(certificates(ca_certs)?.iter().any(signed))
}

/// SHA-256 in lower-case hexadecimal, as `sha256sum` prints it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&openssl::sha::sha256(bytes))
}

pub(super) fn hex(digest: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::testing::{Ca, Leaf};
    use super::*;

    fn days(n: i64) -> Timestamp {
        Timestamp::from_second(Timestamp::now().as_second() + n * 86_400).unwrap()
    }

    #[test]
    fn an_expired_leaf_of_the_right_issuer_is_out_of_date_and_not_of_a_wrong_issuer() {
        let (ca, other) = (Ca::new("kubernetes"), Ca::new("kubernetes"));
        let old = ca.issue(&Leaf { days: (-10, -1), ..Leaf::server("a", &["DNS:a"]) });
        let now = At::Time(Timestamp::now());
        let err = verify_chain(&old.cert, &ca.cert, now, Purpose::Server).unwrap_err();
        assert!(matches!(err, CryptoError::OutOfDate { leaf: true, .. }), "{err}");
        assert_eq!(err.to_string(), "the certificate has expired");
        verify_chain(&old.cert, &ca.cert, At::AnyTime, Purpose::Server).unwrap();
        verify_chain(&old.cert, &ca.cert, At::Time(days(-5)), Purpose::Server).unwrap();
        for at in [now, At::AnyTime] {
            let err = verify_chain(&old.cert, &other.cert, at, Purpose::Server).unwrap_err();
            assert!(matches!(err, CryptoError::Chain { .. }), "{err}");
        }
    }

    #[test]
    fn an_expired_ca_is_named_as_the_cause() {
        let ca = Ca::with_days("kubernetes", (-10, -1));
        let leaf = ca.issue(&Leaf::client("a", &[]));
        let err = verify_chain(&leaf.cert, &ca.cert, At::Time(Timestamp::now()), Purpose::Any).unwrap_err();
        assert_eq!(err.to_string(), "its CA has expired");
    }

    #[test]
    fn any_certificate_of_the_bundle_is_an_anchor() {
        let (root, other) = (Ca::new("root"), Ca::new("other"));
        let middle = root.intermediate("middle");
        let leaf = middle.issue(&Leaf::client("a", &[]));
        let both = [other.cert.clone(), middle.cert.clone()].concat();
        verify_chain(&leaf.cert, &both, At::Time(Timestamp::now()), Purpose::Client).unwrap();
        let chain = [leaf.cert, middle.cert].concat();
        verify_chain(&chain, &root.cert, At::Time(Timestamp::now()), Purpose::Client).unwrap();
        assert!(verify_chain(&chain, &other.cert, At::AnyTime, Purpose::Client).is_err());
    }

    #[test]
    fn a_client_certificate_does_not_serve() {
        let ca = Ca::new("kubernetes");
        let leaf = ca.issue(&Leaf::client("a", &[]));
        let err = verify_chain(&leaf.cert, &ca.cert, At::AnyTime, Purpose::Server).unwrap_err();
        assert!(matches!(err, CryptoError::Purpose { .. }), "{err}");
    }

    #[test]
    fn a_ca_of_the_same_name_with_another_key_has_not_signed() {
        let (ca, namesake) = (Ca::new("kubernetes"), Ca::new("kubernetes"));
        let leaf = ca.issue(&Leaf::client("a", &[]));
        assert!(is_signed_by(&leaf.cert, &ca.cert).unwrap());
        assert!(!is_signed_by(&leaf.cert, &namesake.cert).unwrap());
        assert!(is_signed_by(&leaf.cert, &[namesake.cert, ca.cert].concat()).unwrap());
    }

    #[test]
    fn a_key_belongs_to_its_certificate_by_its_public_half() {
        let ca = Ca::new("kubernetes");
        let (a, b) = (ca.issue(&Leaf::client("a", &[])), ca.issue(&Leaf::client("b", &[])));
        let facts = crate::model::cert::parse_pem(&a.cert).unwrap().remove(0);
        assert_eq!(public_key_der(&a.key).unwrap(), facts.spki);
        assert_ne!(public_key_der(&b.key).unwrap(), facts.spki);
        // as in kubelet-client-current.pem
        assert_eq!(public_key_der(&[a.cert, a.key.to_vec()].concat()).unwrap(), facts.spki);
    }

    #[test]
    fn an_encrypted_key_is_an_error_and_asks_nobody() {
        let key = PKey::generate_ed25519().unwrap();
        let pem = key.private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret").unwrap();
        assert!(matches!(public_key_der(&pem), Err(CryptoError::Key { .. })));
    }

    #[test]
    fn rubbish_is_an_error_and_not_a_panic() {
        for bad in [
            &b""[..],
            b"x",
            b"\x30",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(certificates(bad).is_err());
            assert!(public_key_der(bad).is_err());
            assert!(is_signed_by(bad, bad).is_err());
        }
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
