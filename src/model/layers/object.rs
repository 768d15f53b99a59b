//! Objects of the API, of bytes that nobody vouches for: a list's page, a watch's line. Only what is looked at is kept, borrowed from
//! the bytes where it can be; everything else, keys among it, is passed over unread.

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::text::{Few, Text, or_default};
use crate::model::plain;

/// Longest name of an object, of a namespace or of a webhook (RFC 1123 subdomain; kubernetes: `apimachinery/pkg/util/validation`).
const LONGEST_NAME: usize = 253;
/// `resourceVersion` is a number and `continue` some 150 bytes; both go back to the server as they came.
const LONGEST_TOKEN: usize = 4096;
/// Of `data`, values with names that are known.
const KNOWN: [&str; 8] = [
    "tls.crt",
    "ca.crt",
    "ca-cert.pem",
    "cert-chain.pem",
    "root-cert.pem",
    "crt.pem",
    "ca-bundle.crt",
    "ca-bundle.pem",
];

/// What was answered is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl From<serde_json::Error> for Malformed {
    fn from(e: serde_json::Error) -> Self {
        // its text can quote what was read
        Self(format!("not JSON of the expected form, at line {} column {}", e.line(), e.column()))
    }
}

/// An object, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Raw<'a> {
    #[serde(deserialize_with = "or_default")]
    metadata: Meta<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(super) data: Data<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(super) webhooks: Few<Webhook<'a>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) spec: Spec<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(super) status: Status<'a>,
    /// Of a `Status`, which an event of type `ERROR` has for its object.
    code: u16,
    message: Text<'a>,
    #[serde(skip)]
    new: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Meta<'a> {
    namespace: Text<'a>,
    name: Text<'a>,
    resource_version: Text<'a>,
    #[serde(rename = "continue")]
    more: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Webhook<'a> {
    pub(super) name: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    pub(super) client_config: Spec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Spec<'a> {
    /// Base64 of PEM.
    #[serde(rename = "caBundle")]
    pub(super) bundle: Text<'a>,
}

/// Of a cert-manager Certificate. Another's (an APIService's) has other fields, or the same ones with another meaning.
#[derive(Debug, Default)]
pub(super) struct Status<'a> {
    pub(super) conditions: Few<Condition<'a>>,
    pub(super) not_after: Text<'a>,
    pub(super) renewal_time: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Condition<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) reason: Text<'a>,
    pub(super) message: Text<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Status<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
        #[derive(Default)]
        struct Fields<'a> {
            #[serde(deserialize_with = "or_default")]
            conditions: Few<Condition<'a>>,
            not_after: Text<'a>,
            renewal_time: Text<'a>,
        }
        /// The `status` of a `Status` is a word.
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Status<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a status")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Status::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let Fields { conditions, not_after, renewal_time } =
                    Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Status { conditions, not_after, renewal_time })
            }
        }
        d.deserialize_any(Either)
    }
}

/// The values that are known, of a Secret (base64) or a ConfigMap (plain).
#[derive(Debug, Default)]
pub(super) struct Data<'a>(pub(super) Vec<(&'static str, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Data<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Known;
        impl<'de> Visitor<'de> for Known {
            type Value = Data<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("data")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Data::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    match KNOWN.iter().find(|k| **k == key.0) {
                        Some(known) if !found.0.iter().any(|(k, _)| k == known) => {
                            found.0.push((known, map.next_value()?));
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(found)
            }
        }
        d.deserialize_map(Known)
    }
}

impl Raw<'_> {
    pub(super) fn namespace(&self) -> &str {
        &self.metadata.namespace.0
    }

    pub(super) fn name(&self) -> &str {
        &self.metadata.name.0
    }

    /// `namespace/name`, or the name of what has no namespace; None for names that no object can have.
    pub(super) fn full_name(&self) -> Option<Box<str>> {
        let fits = |s: &str| s.len() <= LONGEST_NAME && s.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        let (namespace, name) = (self.namespace(), self.name());
        match (fits(namespace) && fits(name), namespace.is_empty(), name.is_empty()) {
            (false, ..) | (_, _, true) => None,
            (_, true, _) => Some(name.into()),
            (_, false, _) => Some(format!("{namespace}/{name}").into()),
        }
    }

    pub(super) fn is_new(&self) -> bool {
        self.new
    }
}

/// A page of a list: calls `each` for its objects, one after another, so that there is never more than one of them in memory besides
/// the text. The resource version, and how to go on if there is more.
///
/// # Errors
/// [`Malformed`]; some objects may then have been told already.
pub fn page(json: &[u8], each: impl FnMut(&Raw<'_>)) -> Result<(String, Option<String>), Malformed> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let (version, more) = List(each).deserialize(&mut json)?;
    json.end()?;
    let more = if more.is_empty() { None } else { Some(token(&more)?) };
    Ok((token(&version)?, more))
}

/// `resourceVersion` and `continue`.
struct List<F>(F);

impl<'de, F: FnMut(&Raw<'de>)> DeserializeSeed<'de> for List<F> {
    type Value = (String, String);
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&Raw<'de>)> Visitor<'de> for List<F> {
    type Value = (String, String);
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut about = Meta::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.0.as_ref() {
                "metadata" => about = map.next_value()?,
                "items" => map.next_value_seed(Items(&mut self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((about.resource_version.0.into_owned(), about.more.0.into_owned()))
    }
}

struct Items<'f, F>(&'f mut F);

impl<'de, F: FnMut(&Raw<'de>)> DeserializeSeed<'de> for Items<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&Raw<'de>)> Visitor<'de> for Items<'_, F> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("objects")
    }
    /// Go writes `null` for what is empty.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(object) = seq.next_element::<Raw<'de>>()? {
            (self.0)(&object);
        }
        Ok(())
    }
}

fn token(text: &str) -> Result<String, Malformed> {
    let fits = (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Malformed("a list without a sensible resourceVersion or continue".into()))
    }
}

/// What a line of a watch says.
#[derive(Debug)]
pub enum Change<'a> {
    Put(Raw<'a>, String),
    Gone(Raw<'a>, String),
    /// Nothing but how far we are.
    Bookmark(String),
    /// 410 means that all is to be listed again.
    Failed {
        code: u16,
        message: String,
    },
}

/// # Errors
/// [`Malformed`].
pub fn change(json: &[u8]) -> Result<Change<'_>, Malformed> {
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "'de: 'a"))]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: Text<'a>,
        object: Raw<'a>,
    }
    let Event { kind, mut object } = serde_json::from_slice(json)?;
    if kind.0 == "ERROR" {
        let message = plain::line(&object.message.0, plain::CLAUSE);
        return Ok(Change::Failed { code: object.code, message });
    }
    let version = token(&object.metadata.resource_version.0)?;
    match kind.0.as_ref() {
        "ADDED" | "MODIFIED" => {
            object.new = kind.0 == "ADDED";
            Ok(Change::Put(object, version))
        }
        "DELETED" => Ok(Change::Gone(object, version)),
        "BOOKMARK" => Ok(Change::Bookmark(version)),
        _ => Err(Malformed("a change of a kind that is not known".into())),
    }
}
