//! A credential compared with the one that it is to replace. It must be able to do all that the old one could.

use jiff::Timestamp;
use serde_json::Value;

use super::cert::{CertFacts, KeyAlgorithm};
use super::identity::GROUP;
use super::yaml;

/// What a staged credential is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Just issued: it must differ from the old one and must not end before it.
    New,
    /// From a backup: older than the present one by intention, but it must still work.
    Restored,
}

/// Why a staged credential is not put in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Objection {
    pub rule: Rule,
    /// A sentence: what and why.
    pub message: String,
}

impl Objection {
    pub fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// The rules of docs/architecture.md, "What is validated".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// It is complete and parses.
    Parses,
    KeyMatches,
    Chains,
    Subject,
    Names,
    Usages,
    Strength,
    NotBefore,
    NotExpired,
    EffectiveEnd,
    ReallyNew,
    Kubeconfig,
}

/// Compares `new` with `old` (None: it cannot be read, and only what stands on its own is judged).
/// `bundle` is the CA's file.
pub fn certificates(
    old: Option<&CertFacts>,
    new: &CertFacts,
    bundle: &[CertFacts],
    now: Timestamp,
    freshness: Freshness,
) -> Vec<Objection> {
    let mut objections = Vec::new();
    let mut object = |rule, message: String| objections.push(Objection::new(rule, message));
    if new.not_before > now {
        object(
            Rule::NotBefore,
            format!(
                "it is issued in the future: not valid before {}, and it is {now}; look at the clock",
                new.not_before
            ),
        );
    }
    if new.not_after <= now {
        object(Rule::NotExpired, format!("it expired at {}", new.not_after));
    }
    if new.is_ca {
        object(Rule::Usages, "it is a CA certificate, and a leaf is wanted".into());
    }
    let Some(old) = old else { return objections };
    objections.extend(identity(old, new));
    objections.extend(strength(&old.key_algorithm, &new.key_algorithm));
    if freshness == Freshness::New {
        objections.extend(progress(old, new, bundle));
    }
    objections
}

/// The shortest life that the API lets anybody ask for (kubernetes: `pkg/apis/certificates/validation/validation.go`): less
/// than that left is of no use to a kubelet.
const SHORTEST: i64 = 600;

/// Judges a kubelet's new certificate by what it must be, for `user` and with the extended `usage`: its predecessor may have
/// been anybody's. `old` is that, where it could be read; None for one that is taken over as it is.
pub fn node_identity(
    user: &str,
    usage: &str,
    old: Option<&CertFacts>,
    new: &CertFacts,
    bundle: &[CertFacts],
    now: Timestamp,
) -> Vec<Objection> {
    // none that goes by an old one: dates and that it is no CA
    let mut objections = certificates(None, new, bundle, now, Freshness::Restored);
    let mut object = |rule, message: String| objections.push(Objection::new(rule, message));
    let groups: Vec<&str> = new.organizations.iter().map(String::as_str).collect();
    if new.common_name.as_deref() != Some(user) || groups != [GROUP] {
        object(Rule::Subject, format!("its subject is `{}`, not O={GROUP}, CN={user}", new.subject));
    }
    let lacks: Vec<&str> = ["digitalSignature", usage].into_iter().filter(|u| !new.usages.contains(*u)).collect();
    if !lacks.is_empty() {
        object(Rule::Usages, format!("it lacks the usages {}", lacks.join(", ")));
    }
    if new.key_algorithm.strength() < 112 {
        object(Rule::Strength, format!("its key is too weak: {}", new.key_algorithm));
    }
    let end = effective_end(new, bundle);
    if end > now && end.as_second().saturating_sub(now.as_second()) < SHORTEST {
        object(Rule::EffectiveEnd, format!("it ends at {end} already, which leaves no time to rotate it"));
    }
    let Some(old) = old else { return objections };
    if old.spki == new.spki {
        object(Rule::ReallyNew, "it has the key of the old one, and a renewal makes a new key".into());
    }
    // what is well is not replaced by what ends sooner; and a signer that gives much less than before was set up wrong
    let life = old.not_after.as_second().saturating_sub(old.not_before.as_second()).max(0);
    let ca = bundle.iter().filter(|ca| new.claims_issuer(ca)).map(|ca| ca.not_after.as_second()).max();
    let wanted = now.as_second().saturating_add(life / 2).max(old.not_after.as_second()).min(ca.unwrap_or(i64::MAX));
    if end.as_second() < wanted {
        let message = format!("it would end at {end}, and the one it replaces lived {} hours", life / 3600);
        object(Rule::EffectiveEnd, message);
    }
    objections
}

fn identity(old: &CertFacts, new: &CertFacts) -> Vec<Objection> {
    let mut objections = Vec::new();
    // the order of the parts may differ between issuers; a part may not
    let parts = |c: &CertFacts| {
        let mut parts: Vec<String> = c.subject.split(", ").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    if parts(old) != parts(new) {
        let message = format!(
            "its subject is `{}` and was `{}`: a renewal copies it, so who it is would change",
            new.subject, old.subject
        );
        objections.push(Objection::new(Rule::Subject, message));
    }
    let lost: Vec<&str> = old.sans.difference(&new.sans).map(String::as_str).collect();
    if !lost.is_empty() {
        let message = format!("it lacks {}: clients that use these names would refuse it", lost.join(", "));
        objections.push(Objection::new(Rule::Names, message));
    }
    // only an RSA key can encipher another (RFC 5480 §3, RFC 8813 §3): kubeadm leaves it out for the others
    let meant = |usage: &&str| *usage != "keyEncipherment" || matches!(new.key_algorithm, KeyAlgorithm::Rsa { .. });
    let lost: Vec<&str> = old.usages.difference(&new.usages).map(String::as_str).filter(meant).collect();
    if !lost.is_empty() {
        objections.push(Objection::new(Rule::Usages, format!("it lacks the usages {}", lost.join(", "))));
    }
    objections
}

fn strength(old: &KeyAlgorithm, new: &KeyAlgorithm) -> Option<Objection> {
    let fewer_bits = matches!((old, new), (KeyAlgorithm::Rsa { bits: was }, KeyAlgorithm::Rsa { bits }) if bits < was);
    (new.strength() < old.strength() || fewer_bits).then(|| {
        let message = format!("its key is weaker than before: {new} instead of {old}; set the cluster's encryptionAlgorithm or renewer = \"local\"");
        Objection::new(Rule::Strength, message)
    })
}

fn progress(old: &CertFacts, new: &CertFacts, bundle: &[CertFacts]) -> Vec<Objection> {
    let mut objections = Vec::new();
    let (was, is) = (effective_end(old, bundle), effective_end(new, bundle));
    if is < was {
        let message = format!("it would end earlier than the one it replaces: {is} instead of {was}");
        objections.push(Objection::new(Rule::EffectiveEnd, message));
    }
    if new.serial == old.serial {
        objections.push(Objection::new(Rule::ReallyNew, format!("it is the old one again: serial {}", new.serial)));
    }
    if new.spki == old.spki {
        objections
            .push(Objection::new(Rule::ReallyNew, "it has the key of the old one, and a renewal makes a new key"));
    }
    objections
}

/// A leaf is of no use beyond its CA's end (kubeadm does not cap it there;
/// kubernetes: `cmd/kubeadm/app/util/pkiutil/pki_helpers.go:NewSignedCert`).
pub fn effective_end(leaf: &CertFacts, bundle: &[CertFacts]) -> Timestamp {
    let issuers = bundle.iter().filter(|ca| leaf.claims_issuer(ca)).map(|ca| ca.not_after);
    issuers.max().map_or(leaf.not_after, |ca| ca.min(leaf.not_after))
}

/// Compares two kubeconfigs: everything but the identity of the current context must say the same: server, clusters with
/// the whole CA bundle, contexts, other users. An old text that does not parse is not compared.
pub fn kubeconfigs(old: &str, new: &str) -> Vec<Objection> {
    let read = |text: &str| yaml::parse::<Value>(text).ok();
    let Some(mut new) = read(new) else {
        return vec![Objection::new(Rule::Parses, "the kubeconfig does not parse")];
    };
    let Some(mut old) = read(old) else { return Vec::new() };
    if let Some(user) = current_user(&old) {
        without_identity(&mut old, &user);
        without_identity(&mut new, &user);
    }
    let empty = serde_json::Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let differs = keys.into_iter().filter(|k| old.get(*k) != new.get(*k));
    differs
        .map(|k| {
            Objection::new(
                Rule::Kubeconfig,
                format!("`{k}` of the kubeconfig differs, and only certificate and key may"),
            )
        })
        .collect()
}

fn current_user(config: &Value) -> Option<String> {
    let current = config.get("current-context")?;
    let context = config.get("contexts")?.as_array()?.iter().find(|c| c.get("name") == Some(current))?;
    context.pointer("/context/user")?.as_str().map(str::to_owned)
}

fn without_identity(config: &mut Value, user: &str) {
    let users = config.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten();
    for entry in users.filter(|u| u.get("name").and_then(Value::as_str) == Some(user)) {
        if let Some(fields) = entry.get_mut("user").and_then(Value::as_object_mut) {
            const IDENTITY: [&str; 4] =
                ["client-certificate", "client-certificate-data", "client-key", "client-key-data"];
            fields.retain(|name, _| !IDENTITY.contains(&name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn set(list: &[&str]) -> std::collections::BTreeSet<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn leaf(serial: &str, end: i64) -> CertFacts {
        CertFacts {
            subject: "O=system:masters, CN=kubernetes-admin".into(),
            common_name: Some("kubernetes-admin".into()),
            organizations: set(&["system:masters"]),
            issuer: "CN=kubernetes".into(),
            serial: serial.into(),
            not_before: at(-1),
            not_after: at(end),
            sans: set(&["DNS:a", "IP:10.0.0.1"]),
            usages: set(&["digitalSignature", "clientAuth"]),
            key_algorithm: KeyAlgorithm::Rsa { bits: 2048 },
            is_ca: false,
            spki: serial.as_bytes().to_vec(),
            der: Vec::new(),
            raw: crate::model::cert::Raw::default(),
            issued_here: false,
        }
    }

    fn ca(end: i64) -> CertFacts {
        CertFacts { subject: "CN=kubernetes".into(), is_ca: true, ..leaf("CA", end) }
    }

    fn rules(new: &CertFacts, freshness: Freshness) -> Vec<Rule> {
        let found = certificates(Some(&leaf("01", 10)), new, &[ca(1000)], at(0), freshness);
        found.into_iter().map(|o| o.rule).collect()
    }

    #[test]
    fn a_successor_that_can_all_that_the_old_one_could_is_not_objected_to() {
        assert_eq!(rules(&leaf("02", 365), Freshness::New), []);
        let more = CertFacts { sans: set(&["DNS:a", "DNS:b", "IP:10.0.0.1"]), ..leaf("02", 365) };
        assert_eq!(rules(&more, Freshness::New), []);
        let reordered = CertFacts { subject: "CN=kubernetes-admin, O=system:masters".into(), ..leaf("02", 365) };
        assert_eq!(rules(&reordered, Freshness::New), []);
    }

    #[test]
    fn each_loss_is_an_objection_of_its_own() {
        let new = || leaf("02", 365);
        let cases = [
            (CertFacts { subject: "CN=kubernetes-admin".into(), ..new() }, Rule::Subject),
            (CertFacts { sans: set(&["DNS:a"]), ..new() }, Rule::Names),
            (CertFacts { usages: set(&["digitalSignature"]), ..new() }, Rule::Usages),
            (CertFacts { is_ca: true, ..new() }, Rule::Usages),
            (CertFacts { key_algorithm: KeyAlgorithm::Rsa { bits: 1024 }, ..new() }, Rule::Strength),
            (CertFacts { not_before: at(1), ..new() }, Rule::NotBefore),
            (CertFacts { not_after: at(5), ..new() }, Rule::EffectiveEnd),
            (CertFacts { serial: "01".into(), ..new() }, Rule::ReallyNew),
            (CertFacts { spki: b"01".to_vec(), ..new() }, Rule::ReallyNew),
        ];
        for (case, rule) in cases {
            assert_eq!(rules(&case, Freshness::New), [rule]);
        }
    }

    #[test]
    fn fewer_rsa_bits_are_weaker_even_within_one_class_of_strength() {
        let rsa = |bits| KeyAlgorithm::Rsa { bits };
        assert!(strength(&rsa(4096), &rsa(3072)).is_some());
        assert!(strength(&rsa(2048), &KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 }).is_none());
        assert!(strength(&KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 }, &rsa(2048)).is_some());
    }

    #[test]
    fn key_encipherment_is_missed_only_where_the_new_key_could_do_it() {
        let old = CertFacts { usages: set(&["digitalSignature", "keyEncipherment", "clientAuth"]), ..leaf("01", 10) };
        let curve = KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 };
        for (key, usages, expected) in [
            (curve.clone(), &["digitalSignature", "clientAuth"][..], &[][..]),
            (curve, &["clientAuth"], &[Rule::Usages]),
            (KeyAlgorithm::Rsa { bits: 2048 }, &["digitalSignature", "clientAuth"], &[Rule::Usages]),
        ] {
            let new = CertFacts { key_algorithm: key, usages: set(usages), ..leaf("02", 365) };
            let found: Vec<Rule> = identity(&old, &new).into_iter().map(|o| o.rule).collect();
            assert_eq!(found, expected, "{new:?}");
        }
    }

    #[test]
    fn a_kubelets_new_identity_is_judged_by_who_it_must_be() {
        let node = |serial: &str, end| CertFacts {
            subject: "O=system:nodes, CN=system:node:n1".into(),
            common_name: Some("system:node:n1".into()),
            organizations: set(&["system:nodes"]),
            sans: set(&[]),
            key_algorithm: KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 },
            ..leaf(serial, end)
        };
        // lived 11 days, of which one is left
        let old = CertFacts { not_before: at(-10), ..node("01", 1) };
        let rules = |new: &CertFacts, old: Option<&CertFacts>| {
            let found = node_identity("system:node:n1", "clientAuth", old, new, &[ca(1000)], at(0));
            found.into_iter().map(|o| o.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(&node("02", 11), Some(&old)), []);
        let new = || node("02", 11);
        for (case, rule) in [
            (CertFacts { common_name: Some("system:node:n2".into()), ..new() }, Rule::Subject),
            (CertFacts { organizations: set(&["system:masters"]), ..new() }, Rule::Subject),
            (CertFacts { organizations: set(&["system:masters", "system:nodes"]), ..new() }, Rule::Subject),
            (CertFacts { usages: set(&["digitalSignature", "serverAuth"]), ..new() }, Rule::Usages),
            (CertFacts { key_algorithm: KeyAlgorithm::Rsa { bits: 1024 }, ..new() }, Rule::Strength),
            (CertFacts { spki: b"01".to_vec(), ..new() }, Rule::ReallyNew),
            (CertFacts { is_ca: true, ..new() }, Rule::Usages),
            (node("02", 2), Rule::EffectiveEnd),
            (CertFacts { not_before: at(1), ..new() }, Rule::NotBefore),
        ] {
            assert_eq!(rules(&case, Some(&old)), [rule], "{case:?}");
        }
        assert_eq!(rules(&node("02", 2), None), [], "taken over as it is");
        let soon = CertFacts { not_after: Timestamp::from_second(at(0).as_second() + 599).unwrap(), ..new() };
        assert_eq!(rules(&soon, None), [Rule::EffectiveEnd]);
        // in a CA's last days nothing lasts longer than that
        assert_eq!(node_identity("system:node:n1", "clientAuth", Some(&old), &node("02", 2), &[ca(2)], at(0)), []);
    }

    #[test]
    fn in_the_last_year_of_a_ca_a_renewal_up_to_its_end_is_still_accepted() {
        let (old, new) = (leaf("01", 400), leaf("02", 365));
        assert_eq!(certificates(Some(&old), &new, &[ca(100)], at(0), Freshness::New), []);
    }

    #[test]
    fn a_backup_may_end_earlier_but_not_be_expired() {
        assert_eq!(rules(&leaf("00", 5), Freshness::Restored), []);
        assert_eq!(rules(&leaf("00", 0), Freshness::Restored), [Rule::NotExpired]);
    }

    #[test]
    fn without_a_readable_old_one_only_what_stands_on_its_own_is_judged() {
        let odd = CertFacts { sans: set(&[]), ..leaf("02", 365) };
        assert_eq!(certificates(None, &odd, &[ca(1000)], at(0), Freshness::New), []);
        let late = CertFacts { not_before: at(2), ..leaf("02", 365) };
        assert_eq!(certificates(None, &late, &[], at(0), Freshness::New).len(), 1);
    }

    const KUBECONFIG: &str = "clusters: [{name: c, cluster: {server: 'https://a', certificate-authority-data: QUJD}}]\n\
        users: [{name: u, user: {client-certificate-data: AAAA, client-key-data: BBBB}}, {name: o, user: {client-key-data: EEEE}}]\n\
        contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";

    #[test]
    fn a_kubeconfig_may_differ_in_its_identity_only() {
        let new = KUBECONFIG.replace("AAAA", "CCCC").replace("BBBB", "DDDD");
        assert_eq!(kubeconfigs(KUBECONFIG, &new), []);
        for (from, to, part) in [
            ("https://a", "https://b", "clusters"),
            ("QUJD", "QUI=", "clusters"),
            ("context: x", "context: y", "current-context"),
            ("name: u", "name: v", "users"),
            ("EEEE", "DDDD", "users"),
        ] {
            let found = kubeconfigs(KUBECONFIG, &new.replace(from, to));
            assert_eq!(found.len(), 1, "{part}");
            assert!(found.iter().all(|o| o.message.contains(part)), "{found:?}");
        }
    }

    #[test]
    fn a_broken_old_kubeconfig_does_not_make_the_new_one_wrong() {
        assert_eq!(kubeconfigs("{{{", KUBECONFIG), []);
        assert_eq!(kubeconfigs(KUBECONFIG, "{{{").len(), 1);
    }
}
