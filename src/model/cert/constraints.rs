//! Name constraints of a CA (RFC 5280 §4.2.1.10) as Go judges them, which limits more than OpenSSL and less than the RFC: of
//! every certificate below the CA each alternative name counts and the subject does not (Go 1.26:
//! `crypto/x509/constraints.go`; `parser.go:parseNameConstraintsExtension`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints as Parsed};

/// What the certificates below a CA may be called.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NameConstraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

/// Of each kind of name; of a kind that is not in it nothing is said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Subtrees {
    dns: Vec<String>,
    emails: Vec<String>,
    uris: Vec<String>,
    networks: Vec<Network>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Network {
    address: Vec<u8>,
    mask: Vec<u8>,
}

impl NameConstraints {
    pub(super) fn of(parsed: &Parsed<'_>) -> Self {
        let subtrees = |list: &Option<Vec<GeneralSubtree<'_>>>| Subtrees::of(list.as_deref().unwrap_or_default());
        Self { permitted: subtrees(&parsed.permitted_subtrees), excluded: subtrees(&parsed.excluded_subtrees) }
    }

    /// Why a certificate with these alternative names may not be below the CA: a clause. They are as in
    /// [`super::CertFacts::sans`].
    pub fn refuse(&self, sans: &BTreeSet<String>) -> Option<String> {
        sans.iter().find_map(|san| {
            let (kind, name) = san.split_once(':')?;
            let why = match kind {
                "DNS" => self.dns(name),
                "IP" => self.address(name),
                "URI" => self.uri(name),
                "email" => self.email(name),
                _ => None,
            };
            why.map(|why| format!("{san} in it {why}"))
        })
    }

    fn dns(&self, name: &str) -> Option<&'static str> {
        if is_domain(name, false) { self.domain(|s| &s.dns, name) } else { Some(UNREADABLE) }
    }

    fn address(&self, name: &str) -> Option<&'static str> {
        let bytes = match name.parse() {
            Ok(IpAddr::V4(v4)) => v4.octets().to_vec(),
            Ok(IpAddr::V6(v6)) => v6.octets().to_vec(),
            Err(_) => return None, // refused whatever its CA says
        };
        let (permitted, excluded) = (&self.permitted.networks, &self.excluded.networks);
        judge(permitted, excluded, |network, _| network.contains(&bytes))
    }

    /// Any URI must have a host that is a name, whatever kinds the CA speaks of.
    fn uri(&self, uri: &str) -> Option<&'static str> {
        let parsed = uri.parse::<http::Uri>().ok();
        let host = parsed.as_ref().filter(|u| u.scheme().is_some()).and_then(http::Uri::host).unwrap_or_default();
        let no_name = host.is_empty() || host.starts_with('[') || host.parse::<IpAddr>().is_ok();
        if no_name || !is_domain(host, false) { Some(UNREADABLE) } else { self.domain(|s| &s.uris, host) }
    }

    fn email(&self, mailbox: &str) -> Option<&'static str> {
        let Some((local, domain)) = mailbox.rsplit_once('@') else { return Some(UNREADABLE) };
        if !is_domain(domain, false) {
            return Some(UNREADABLE);
        }
        judge(&self.permitted.emails, &self.excluded.emails, |constraint, excluded| match constraint.rsplit_once('@') {
            Some((one, at)) => one == local && at.eq_ignore_ascii_case(domain),
            None => within(constraint, domain, excluded),
        })
    }

    fn domain(&self, kind: impl Fn(&Subtrees) -> &Vec<String>, name: &str) -> Option<&'static str> {
        judge(kind(&self.permitted), kind(&self.excluded), |constraint, excluded| within(constraint, name, excluded))
    }
}

const UNREADABLE: &str = "cannot be compared with the name constraints of its CA";

/// `fits` is also told whether the constraint excludes.
fn judge<T>(permitted: &[T], excluded: &[T], fits: impl Fn(&T, bool) -> bool) -> Option<&'static str> {
    if !permitted.is_empty() && !permitted.iter().any(|c| fits(c, false)) {
        return Some("is not permitted by the name constraints of its CA");
    }
    excluded.iter().any(|c| fits(c, true)).then_some("is excluded by the name constraints of its CA")
}

/// Whether a domain is a constraint's or below it; one that begins with a dot is about those below only. A wildcard is
/// excluded with any name that it stands for.
fn within(constraint: &str, name: &str, excluded: bool) -> bool {
    let parent = |domain: &str| domain.find('.').and_then(|dot| domain.get(dot..)).map(str::to_ascii_lowercase);
    let wildcard = || excluded && name.starts_with('*') && parent(name).is_some_and(|p| Some(p) == parent(constraint));
    constraint.is_empty() || has_suffix(name, constraint) || wildcard()
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    let (name, suffix) = (name.as_bytes(), suffix.as_bytes());
    let Some((before, end)) = name.len().checked_sub(suffix.len()).and_then(|at| name.split_at_checked(at)) else {
        return false;
    };
    let whole_labels = suffix.starts_with(b".") || before.is_empty() || before.ends_with(b".");
    whole_labels && end.eq_ignore_ascii_case(suffix)
}

/// As much as Go asks of a domain (`domainNameValid`).
fn is_domain(name: &str, constraint: bool) -> bool {
    let labels = if constraint { name.strip_prefix('.').unwrap_or(name) } else { name };
    name.is_empty() || labels.split('.').all(|label| !label.is_empty() && label.bytes().all(|b| matches!(b, 33..=126)))
}

impl Subtrees {
    fn of(list: &[GeneralSubtree<'_>]) -> Self {
        let mut found = Self::default();
        for subtree in list {
            match &subtree.base {
                GeneralName::DNSName(name) => found.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => found.emails.push((*name).to_owned()),
                GeneralName::URI(name) => found.uris.push((*name).to_owned()),
                GeneralName::IPAddress(raw) => found.networks.extend(Network::of(raw)),
                _ => {}
            }
        }
        found
    }
}

impl Network {
    /// An address and as many bytes of mask, which are ones and then zeros.
    fn of(raw: &[u8]) -> Option<Self> {
        let (address, mask) = raw.split_at_checked(raw.len() / 2).filter(|_| matches!(raw.len(), 8 | 32))?;
        let mut rest = mask.iter().skip_while(|b| **b == 0xff);
        let first = rest.next().copied().unwrap_or_default();
        let contiguous = first.leading_ones() == first.count_ones() && rest.all(|b| *b == 0);
        contiguous.then(|| Self { address: address.to_vec(), mask: mask.to_vec() })
    }

    fn contains(&self, address: &[u8]) -> bool {
        let bits = self.address.iter().zip(address).zip(&self.mask);
        self.address.len() == address.len() && bits.into_iter().all(|((own, other), mask)| own & mask == other & mask)
    }
}

/// Why the extension itself makes a certificate unfit: a clause.
pub(super) fn odd(parsed: &Parsed<'_>, critical: bool) -> Option<&'static str> {
    let all = || parsed.permitted_subtrees.iter().chain(&parsed.excluded_subtrees).flatten().map(|s| &s.base);
    let bad = |base: &GeneralName<'_>| match base {
        GeneralName::DNSName(name) => !is_domain(name, true),
        GeneralName::RFC822Name(name) => !is_domain(name.rsplit_once('@').map_or(*name, |(_, d)| d), true),
        GeneralName::URI(name) => name.parse::<IpAddr>().is_ok() || !is_domain(name, true),
        GeneralName::IPAddress(raw) => Network::of(raw).is_none(),
        GeneralName::Invalid(..) => true,
        _ => false,
    };
    let known = |base: &GeneralName<'_>| super::demands::is_name(base);
    if all().next().is_none() || all().any(bad) {
        Some("its name constraints are malformed")
    } else if critical && !all().all(known) {
        Some("it has critical name constraints of a kind that they do not know")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(permitted: &[&str], excluded: &[&str], san: &str) -> bool {
        let trees = |domains: &[&str]| Subtrees {
            dns: domains.iter().map(|d| (*d).to_owned()).collect(),
            ..Subtrees::default()
        };
        let constraints = NameConstraints { permitted: trees(permitted), excluded: trees(excluded) };
        constraints.refuse(&BTreeSet::from([san.to_owned()])).is_some()
    }

    #[test]
    fn a_domain_is_within_itself_and_those_above_by_whole_labels_and_whatever_its_case() {
        for (constraint, name, is) in [
            ("example.com", "DNS:example.com", true),
            ("example.com", "DNS:a.EXAMPLE.com", true),
            ("example.com", "DNS:notexample.com", false),
            (".example.com", "DNS:example.com", false),
            (".example.com", "DNS:a.example.com", true),
            ("", "DNS:anything", true),
            ("example.com", "DNS:*.example.com", true),
            ("a.example.com", "DNS:*.example.com", false),
        ] {
            assert_eq!(refused(&[constraint], &[], name), !is, "permitted {constraint}: {name}");
        }
        assert!(refused(&[], &["a.example.com"], "DNS:*.example.com"), "it stands for that one, too");
        assert!(!refused(&[], &["a.example.com"], "DNS:b.example.com"));
        assert!(refused(&[], &["a"], "DNS:b..c"), "what is no name fits nothing");
        assert!(!refused(&["example.com"], &[], "IP:10.0.0.1"), "of addresses nothing is said");
    }
}
