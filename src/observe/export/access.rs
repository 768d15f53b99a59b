//! Who may ask: HTTP basic authentication (RFC 7617).

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use openssl::memcmp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{ExportError, credential};

/// The credential with lines `name:password`.
const USERS: &str = "users";

/// Digests of `name:password`; none at all lets everybody in. What was written is not kept.
pub(super) struct Access(Option<Vec<[u8; 32]>>);

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Access").field(&self.0.as_ref().map(Vec::len)).finish()
    }
}

impl Access {
    /// # Errors
    /// A file of users without any is refused: it would let everybody in, or nobody.
    pub(super) fn load(directory: Option<&Path>) -> Result<Self, ExportError> {
        let Some((path, bytes)) = credential(directory, USERS)? else { return Ok(Self(None)) };
        let lines =
            || bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty() && !l.starts_with(b"#"));
        let bad = |detail: &str| ExportError::Unusable { path: path.clone(), detail: detail.to_owned() };
        if lines().any(|l| matches!(l.iter().position(|b| *b == b':'), None | Some(0)) || l.ends_with(b":")) {
            return Err(bad("each line is `name:password`, both not empty"));
        }
        let users: Vec<[u8; 32]> = lines().map(digest).collect();
        if users.is_empty() { Err(bad("there is nobody in it")) } else { Ok(Self(Some(users))) }
    }

    /// Takes as long for a wrong name as for a wrong password, however much of either is right.
    pub(super) fn allows(&self, header: Option<&HeaderValue>) -> bool {
        let Some(users) = &self.0 else { return true };
        let given = header.and_then(|h| {
            let (scheme, value) = h.to_str().ok()?.split_once(' ')?;
            let value = scheme.eq_ignore_ascii_case("basic").then(|| value.trim())?;
            STANDARD.decode(value).ok().map(Zeroizing::new)
        });
        let given = digest(given.as_ref().map_or(b"", |g| g.as_slice()));
        users.iter().fold(false, |known, user| known | memcmp::eq(user, &given))
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(users: &str) -> Result<Access, ExportError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(USERS), users).unwrap();
        Access::load(Some(dir.path()))
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap()
    }

    #[test]
    fn only_who_is_named_with_his_password_may_ask() {
        let access = access("# scrapers\nprometheus:s3cret:with colon\n\nanna:b\n").unwrap();
        for (given, want) in [
            (Some(header("prometheus:s3cret:with colon")), true),
            (Some(header("anna:b")), true),
            (Some(header("anna:s3cret:with colon")), false),
            (Some(header("anna:")), false),
            (Some(header("")), false),
            (Some(HeaderValue::from_static("Bearer YW5uYTpi")), false),
            (Some(HeaderValue::from_static("basic YW5uYTpi")), true),
            (Some(HeaderValue::from_static("Basic ???")), false),
            (None, false),
        ] {
            assert_eq!(access.allows(given.as_ref()), want, "{given:?}");
        }
        assert!(!format!("{access:?}").contains("anna"));
    }

    #[test]
    fn a_file_of_users_that_says_nothing_sensible_lets_nobody_start() {
        for users in ["", "# nobody\n", "anna\n", ":b\n", "anna:\n"] {
            assert!(access(users).is_err(), "{users:?}");
        }
        assert!(Access::load(None).unwrap().allows(None), "without a file everybody may ask");
    }
}
