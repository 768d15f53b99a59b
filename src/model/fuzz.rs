//! What must hold of every kubeconfig; and how an input is taken apart.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken property is a panic; not part of the product"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::kubeconfig::{self, Identity, Kubeconfig};
use super::pem::decode_base64;
use super::plain;
use super::yaml;

const CERT: &[u8] = b"\xfb\xff a new certificate";
const KEY: &[u8] = b"\xff\xfb a new key";

/// A kubeconfig is understood or refused; a graft exchanges exactly the certificate and the key, in the text and in what
/// the text says.
pub fn kubeconfig(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let grafted = kubeconfig::graft(text, CERT, KEY);
    let Ok(old) = kubeconfig::parse(text) else {
        assert!(grafted.is_err(), "what is not understood is not changed");
        return;
    };
    let Ok(new) = grafted else { return };
    let Identity::Embedded { cert, key } = &old.identity else { panic!("there was nothing to exchange") };
    let identity = Identity::Embedded { cert: CERT.to_vec(), key: KEY.to_vec().into() };
    assert_eq!(kubeconfig::parse(&new), Ok(Kubeconfig { identity, ..old.clone() }));
    assert_eq!(kubeconfig::refreshed(text, text, &new, false), Some(new.clone()), "a copy of the old becomes the new");
    assert_eq!(others(text, &old.user), others(&new, &old.user), "something else says something else");
    if [CERT, KEY].iter().any(|value| text.contains(&STANDARD.encode(value))) {
        return; // the new value is there twice now: whoever looks for it finds no place, and says so
    }
    two_places_differ(text, &new, (cert, key));
    let back = kubeconfig::graft(&new, cert, key);
    assert_eq!(back.and_then(|text| kubeconfig::parse(&text)), Ok(old), "the way back");
}

/// Text of anybody: what is shown of it commands nothing, hides nothing, is as long as it may be, and stays as it is. The
/// first byte is how long that is.
pub fn plain(data: &[u8]) {
    let Some((most, text)) = data.split_first() else { return };
    let (most, text) = (usize::from(*most), String::from_utf8_lossy(text));
    let shown = plain::line(&text, most);
    assert!(shown.chars().all(plain::is_plain) && shown.chars().count() <= most, "{shown:?}");
    assert_eq!(plain::line(&shown, most), shown, "shown once it stays so");
    let bytes = plain::in_bytes(&text, most);
    assert!(bytes.chars().all(plain::is_plain) && bytes.len() <= most, "{bytes:?}");
    let whole = plain::one_line(&text);
    assert_eq!(whole.chars().count(), text.chars().count(), "a character for a character: columns stay columns");
    assert!(whole.chars().all(plain::is_plain) && !whole.contains('\u{1b}'), "{whole:?}");
    assert!(text.chars().zip(whole.chars()).all(|(c, shown)| c == shown || !plain::is_plain(c)), "{whole:?}");
    let lines = plain::lines(&text);
    assert_eq!(plain::one_line(&lines), whole, "lines differ by their ends only");
    let document = serde_json::to_string(&text).unwrap();
    let shown = plain::json(&document);
    assert!(shown.chars().all(plain::is_plain), "{shown:?}");
    assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text, "the document says the same");
}

/// A token is what a header can hold, and is in the text.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(Some(token)) = kubeconfig::token(text) else { return };
    assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()), "{:?}", token.as_str());
    let parsed = kubeconfig::parse(text);
    assert!(parsed.is_ok(), "a token of what is no kubeconfig");
}

/// `old` is `new` but for two values, which decode to what was there.
fn two_places_differ(old: &str, new: &str, (cert, key): (&[u8], &[u8])) {
    let (new_cert, new_key) = (STANDARD.encode(CERT), STANDARD.encode(KEY));
    let at = |value: &str| new.find(value).unwrap_or_else(|| panic!("a new value is not in it"));
    let mut places = [(at(&new_cert), new_cert.len(), cert), (at(&new_key), new_key.len(), key)];
    places.sort_unstable_by_key(|p| p.0);
    let [first, second] = places;
    let (before, between, after) = (&new[..first.0], &new[first.0 + first.1..second.0], &new[second.0 + second.1..]);
    let changed = old.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let changed = changed.unwrap_or_else(|| panic!("text around the values was changed"));
    let decodes = |text: &str, was: &[u8]| decode_base64(text.as_bytes()).is_some_and(|bytes| *bytes == was);
    let fits = |(i, _)| decodes(&changed[..i], first.2) && decodes(&changed[i + between.len()..], second.2);
    assert!(changed.match_indices(between).any(fits), "text between the values was changed");
}

/// Everything that the text says but the two values.
fn others(text: &str, user: &str) -> Option<Value> {
    let mut all: Value = yaml::parse(text).ok()?;
    for item in all.get_mut("users")?.as_array_mut()?.iter_mut().filter(|i| i["name"] == user) {
        let fields = item.get_mut("user")?.as_object_mut()?;
        fields.remove("client-certificate-data");
        fields.remove("client-key-data");
    }
    Some(all)
}

/// The parts of an input that stands for several files, separated by NUL; missing ones are empty.
pub(crate) fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |b| *b == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// As [`parts`], as text; None if one is not.
pub(crate) fn texts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let mut texts = [""; N];
    for (text, part) in texts.iter_mut().zip(parts::<N>(data)) {
        *text = std::str::from_utf8(part).ok()?;
    }
    Some(texts)
}
