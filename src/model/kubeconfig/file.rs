//! The file's own form. Scalars are what Go's decoder makes of them: a number is no text, and a text is no switch.

use std::path::PathBuf;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Text that may be a key: zeroed, never printed.
#[derive(Default)]
pub(super) struct Secret(Option<Zeroizing<String>>);

impl Secret {
    pub(super) fn given(&self) -> Option<&str> {
        self.0.as_ref().map(|s| s.as_str()).filter(|s| !s.trim_matches(['\n', '\r']).is_empty())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Option::<Text>::deserialize(d).map(|s| Self(s.map(|text| Zeroizing::new(text.0))))
    }
}

/// A text. Numbers and booleans that are not quoted are none (sigs.k8s.io/yaml makes JSON of it first).
#[derive(Clone, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Only;
        impl Visitor<'_> for Only {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                std::str::from_utf8(bytes).map(|text| Text(text.to_owned())).map_err(E::custom)
            }
        }
        d.deserialize_any(Only)
    }
}

/// A boolean as YAML 1.1 has them, which is what Go reads.
#[derive(Clone, Copy)]
pub(super) struct Switch(pub(super) bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Only;
        impl Visitor<'_> for Only {
            type Value = Switch;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Switch, E> {
                match word.to_ascii_lowercase().as_str() {
                    "yes" | "on" => Ok(Switch(true)),
                    "no" | "off" => Ok(Switch(false)),
                    _ => Err(E::custom("neither true nor false")),
                }
            }
        }
        d.deserialize_any(Only)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) kind: Option<Text>,
    #[serde(rename = "apiVersion")]
    pub(super) api_version: Option<Text>,
    pub(super) current_context: Option<Text>,
    pub(super) contexts: Option<Vec<NamedContext>>,
    pub(super) clusters: Option<Vec<NamedCluster>>,
    pub(super) users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
pub(super) struct NamedContext {
    pub(super) name: Option<Text>,
    pub(super) context: Option<Context>,
}

#[derive(Default, Deserialize)]
pub(super) struct Context {
    pub(super) cluster: Option<Text>,
    pub(super) user: Option<Text>,
}

#[derive(Deserialize)]
pub(super) struct NamedCluster {
    pub(super) name: Option<Text>,
    pub(super) cluster: Option<Cluster>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Cluster {
    pub(super) server: Option<Text>,
    pub(super) certificate_authority: Option<PathBuf>,
    #[serde(default)]
    pub(super) certificate_authority_data: Secret,
    pub(super) insecure_skip_tls_verify: Option<Switch>,
    pub(super) tls_server_name: Option<Text>,
}

#[derive(Deserialize)]
pub(super) struct NamedUser {
    pub(super) name: Option<Text>,
    pub(super) user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::struct_field_names, reason = "the file's own names")]
pub(super) struct User {
    pub(super) client_certificate: Option<PathBuf>,
    #[serde(default)]
    pub(super) client_certificate_data: Secret,
    pub(super) client_key: Option<PathBuf>,
    #[serde(default)]
    pub(super) client_key_data: Secret,
    #[serde(default)]
    pub(super) token: Secret,
}

pub(super) trait Named {
    fn name(&self) -> &str;
}
impl Named for NamedContext {
    fn name(&self) -> &str {
        self.name.as_ref().map(|n| n.0.as_str()).unwrap_or_default()
    }
}
impl Named for NamedCluster {
    fn name(&self) -> &str {
        self.name.as_ref().map(|n| n.0.as_str()).unwrap_or_default()
    }
}
impl Named for NamedUser {
    fn name(&self) -> &str {
        self.name.as_ref().map(|n| n.0.as_str()).unwrap_or_default()
    }
}
