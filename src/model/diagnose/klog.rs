//! The kubelet's log, read for what it says about certificates. Both styles of klog occur: `E1122 16:00:00.1 7 file.go:1] text: reason`
//! and, since 1.20 piece by piece, `"Text" err="reason"`; what is looked for is in both.
//!
//! Absence proves nothing: many useful lines are written at a verbosity that few kubelets run with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::plain;

/// What to look for.
struct Pattern {
    id: Signature,
    /// All of these, in lower case, anywhere in the line.
    all: &'static [&'static str],
    /// And one of these, if there are any.
    any: &'static [&'static str],
}

macro_rules! signatures {
    ($($name:ident = $id:literal $meaning:literal: [$($all:literal),*] [$($any:literal),*],)*) => {
        /// What a line of the kubelet's log says, by a stable id.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum Signature {
            $(#[doc = $meaning] $name,)*
        }

        impl Signature {
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// In a clause.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }

        const PATTERNS: &[Pattern] = &[
            $(Pattern { id: Signature::$name, all: &[$($all),*], any: &[$($any),*] },)*
        ];
    };
}

// client-go: util/certificate/certificate_manager.go, certificate_store.go; kubernetes: pkg/kubelet/certificate/bootstrap,
// pkg/kubelet/certificate/transport.go, pkg/kubelet/kubelet_node_status.go; net/http/server.go; crypto/x509/verify.go
signatures! {
    BootstrapExpired = "K01" "the client certificate in the kubeconfig has expired: the kubelet wants to bootstrap":
        ["part of the existing bootstrap client certificate", "is expired"] [],
    NoBootstrap = "K02" "it cannot start: there is no usable client certificate, and nothing to bootstrap with":
        ["unable to load bootstrap kubeconfig"] ["no such file", "invalid", "does not exist"],
    NotSigned = "K03" "a request was not answered within 15 minutes": ["certificate request was not signed"] [],
    RequestForbidden = "K04" "it may not file certificate signing requests":
        ["failed while requesting a signed certificate from the", "forbidden"] [],
    RequestRefused = "K05" "it could not ask for a certificate: its client certificate is refused":
        ["failed while requesting a signed certificate from the"] ["unauthorized", "certificate has expired", "bad certificate", "expired certificate"],
    RequestUnreachable = "K06" "it could not ask for a certificate: the API server cannot be reached":
        ["failed while requesting a signed certificate from the"]
        ["connection refused", "i/o timeout", "no route to host", "no such host", "tls handshake timeout"],
    NoTemplate = "K07" "it does not know yet what to ask for: the node has no addresses":
        [] ["unable to generate a certificate signing request", "no template available"],
    GaveUp = "K08" "it has given up its quick retries": ["reached backoff limit, still unable to rotate certs"] [],
    NoValidClient = "K09" "it has no valid client certificate any more":
        [] ["no valid client certificate is found", "since a valid client cert was found"],
    ClientExpired = "K10" "its client certificate has expired": ["currently active client certificate has expired"] [],
    NotStored = "K11" "it cannot write its new certificate": ["unable to store the new cert/key pair"] [],
    ServingRefused = "K12" "somebody refuses the kubelet's serving certificate":
        ["http: tls handshake error from", "remote error: tls:"] ["bad certificate", "expired certificate", "unknown certificate"],
    NoServing = "K13" "it has no serving certificate": ["no serving certificate available for the kubelet"] [],
    OutOfDate = "K14" "a certificate is out of date": ["x509: certificate has expired or is not yet valid"] [],
    UnknownAuthority = "K15" "a certificate is of a CA that is not trusted": ["x509: certificate signed by unknown authority"] [],
    NotReported = "K16" "it cannot report to the API server":
        [] ["unable to register node with api server", "error updating node status", "failed to ensure lease exists", "unable to register node"],
    Rotated = "K17" "it has taken a new client certificate": ["certificate rotation detected, shutting down client connections"] [],
    Renamed = "K19" "its certificate does not fit what it is now":
        ["current certificate"] ["cn does not match", "is missing requested dns names", "is missing requested ip addresses"],
    BadName = "K20" "the API server's certificate is not for the name that is dialled":
        [] ["x509: certificate is valid for", "x509: cannot validate certificate for"],
    BadConfig = "K21" "it cannot use its own configuration":
        [] ["failed to load kubelet config file", "failed to load kubelet configuration", "unknown flag:", "failed to validate kubelet flags", "failed to parse kubelet flag",
         "failed to validate kubelet configuration", "failed to load kubelet dropin file"],
    SwapOn = "K22" "it does not start with swap": ["running with swap on is not supported"] [],
    NoRuntime = "K23" "it cannot reach the container runtime":
        [] ["failed to run kubelet: failed to create kubelet", "container runtime is down", "validate service connection", "failed to get runtime"],
    BadKubeconfig = "K24" "it cannot use its kubeconfig": [] ["invalid kubeconfig", "error loading config file", "unable to load client ca file"],
}

/// A line of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    pub at: Timestamp,
    pub text: String,
}

/// How often a signature was seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Hit {
    pub signature: Signature,
    pub count: usize,
    pub first: Timestamp,
    pub last: Timestamp,
    /// The last of these lines, without klog's header, cut.
    pub line: String,
}

/// What a stretch of the log says.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Hits {
    /// Of the oldest line that was looked at.
    pub since: Option<Timestamp>,
    pub lines: usize,
    /// In the order in which they were seen first.
    pub found: Vec<Hit>,
}

impl Hits {
    pub fn get(&self, signature: Signature) -> Option<&Hit> {
        self.found.iter().find(|h| h.signature == signature)
    }

    /// Whether it was seen at `after` or later.
    pub fn lately(&self, signature: Signature, after: Timestamp) -> bool {
        self.get(signature).is_some_and(|h| h.last >= after)
    }
}

/// What a line says; the first that fits.
pub fn signature(text: &str) -> Option<Signature> {
    let line = text.to_ascii_lowercase();
    let fits = |p: &&Pattern| {
        p.all.iter().all(|w| line.contains(w)) && (p.any.is_empty() || p.any.iter().any(|w| line.contains(w)))
    };
    PATTERNS.iter().find(fits).map(|p| p.id)
}

/// Every signature in the lines, in whatever order they come: journalctl that looks for a pattern begins with the newest.
pub fn hits(lines: impl IntoIterator<Item = Line>) -> Hits {
    let mut hits = Hits::default();
    let mut lines: Vec<Line> = lines.into_iter().collect();
    lines.sort_by_key(|l| l.at);
    for line in lines {
        hits.lines += 1;
        hits.since = hits.since.or(Some(line.at));
        let Some(signature) = signature(&line.text) else { continue };
        let text = told(&line.text);
        match hits.found.iter_mut().find(|h| h.signature == signature) {
            Some(hit) => {
                hit.count += 1;
                (hit.last, hit.line) = (line.at, text);
            }
            None => hits.found.push(Hit { signature, count: 1, first: line.at, last: line.at, line: text }),
        }
    }
    hits
}

/// The words that journalctl may look for, as one pattern of PCRE: those that every signature has one of.
pub fn search() -> String {
    let words = PATTERNS.iter().flat_map(|p| p.all.first().map_or(p.any, std::slice::from_ref));
    let quoted = words.map(|w| w.replace('.', "\\.").replace('(', "\\(").replace('/', "\\/"));
    quoted.collect::<Vec<_>>().join("|")
}

/// Without klog's header (`E1122 16:00:00.123456     573 file.go:12] `), on one line, cut.
fn told(text: &str) -> String {
    let header = |(head, _): &(&str, &str)| {
        let mut bytes = head.bytes();
        matches!(bytes.next(), Some(b'I' | b'W' | b'E' | b'F')) && bytes.next().is_some_and(|b| b.is_ascii_digit())
    };
    let text = text.split_once("] ").filter(header).map_or(text, |(_, rest)| rest);
    plain::line(text, plain::SENTENCE)
}

/// A line as `journalctl -o json` prints it; None for what is none. A message that is not UTF-8 is a list of bytes there,
/// one that is too long is null (systemd: `Journal Export Formats`).
pub fn parse(line: &str) -> Option<Line> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "MESSAGE")]
        message: Option<Message>,
        #[serde(rename = "__REALTIME_TIMESTAMP")]
        at: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Message {
        Text(String),
        Bytes(Vec<u8>),
        /// A field that occurs several times.
        Several(Vec<String>),
    }
    let record: Record = serde_json::from_str(line).ok()?;
    let text = match record.message? {
        Message::Text(text) => text,
        Message::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Message::Several(texts) => texts.join(" "),
    };
    Some(Line { at: Timestamp::from_microsecond(record.at.parse().ok()?).ok()?, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_the_kubelets_log_are_understood() {
        use Signature as S;
        for (text, wanted) in [
            (
                "E1122 16:00:00.123456     573 bootstrap.go:264] part of the existing bootstrap client certificate in /etc/kubernetes/kubelet.conf is expired: 2026-11-21 00:00:00 +0000 UTC",
                Some(S::BootstrapExpired),
            ),
            (
                "E1122 16:00:00.1 7 bootstrap.go:265] \"Part of the existing bootstrap client certificate in /etc/kubernetes/kubelet.conf is expired\" err=\"x\"",
                Some(S::BootstrapExpired),
            ),
            (
                "F1122 16:00:00.1 7 server.go:269] failed to run Kubelet: unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory",
                Some(S::NoBootstrap),
            ),
            (
                "E1122 16:00:00.1 7 run.go:74] \"command failed\" err=\"failed to run Kubelet: unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory\"",
                Some(S::NoBootstrap),
            ),
            (
                "E1122 16:00:00.1 7 certificate_manager.go:454] kubernetes.io/kube-apiserver-client-kubelet: certificate request was not signed: timed out waiting for the condition",
                Some(S::NotSigned),
            ),
            (
                "E1122 16:00:00.1 7 certificate_manager.go:562] \"Unhandled Error\" err=\"kubernetes.io/kubelet-serving: Failed while requesting a signed certificate from the control plane: cannot create certificate signing request: certificatesigningrequests.certificates.k8s.io is forbidden: User x\"",
                Some(S::RequestForbidden),
            ),
            (
                "E1122 1 certificate_manager.go:437] Failed while requesting a signed certificate from the master: cannot create certificate signing request: Unauthorized",
                Some(S::RequestRefused),
            ),
            (
                "E1122 1 certificate_manager.go:437] Failed while requesting a signed certificate from the master: cannot create certificate signing request: Post https://10.0.0.1:6443/x: dial tcp 10.0.0.1:6443: connect: connection refused",
                Some(S::RequestUnreachable),
            ),
            (
                "E1122 1 kubelet_node_status.go:93] Unable to register node \"n\" with API server: Post x: x509: certificate signed by unknown authority",
                Some(S::UnknownAuthority),
            ),
            (
                "E1122 1 x.go:1] \"Unable to register node with API server\" err=\"Unauthorized\" node=\"n\"",
                Some(S::NotReported),
            ),
            (
                "I1122 1 log.go:172] http: TLS handshake error from 10.0.0.9:1: remote error: tls: expired certificate",
                Some(S::ServingRefused),
            ),
            ("I1122 1 log.go:172] http: TLS handshake error from 10.0.0.9:1: EOF", None),
            (
                "E1122 1 certificate_store.go:1] unable to store the new cert/key pair: open /var/lib/kubelet/pki/x: no space left on device",
                Some(S::NotStored),
            ),
            ("I1122 16:00:00.1 7 kubelet_network.go:77] Setting Pod CIDR", None),
            ("", None),
        ] {
            assert_eq!(signature(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_kubelet_of_1_36_that_refuses_its_configuration_is_recognised() {
        // kubernetes: cmd/kubelet/app/server.go:NewKubeletCommand, pkg/kubelet/apis/config/validation/validation_linux.go
        for text in [
            "failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1",
            "failed to load kubelet dropin file, path: /etc/kubernetes/kubelet.conf.d/x.conf, error: x",
            "failed to load kubelet config file, path: /var/lib/kubelet/config.yaml, error: x",
            "failed to validate kubelet flags: x",
        ] {
            let line = format!("E1122 16:00:00.1 7 run.go:72] \"command failed\" err=\"{text}\"");
            assert_eq!(signature(&line), Some(Signature::BadConfig), "{line}");
        }
    }

    #[test]
    fn what_journalctl_is_asked_for_finds_every_signature() {
        let search = search();
        for pattern in PATTERNS {
            let words = pattern.all.first().map_or(pattern.any, std::slice::from_ref);
            for word in words {
                assert!(search.contains(&word.replace('.', "\\.").replace('/', "\\/")), "{word}");
            }
        }
        assert!(!search.bytes().any(|b| b.is_ascii_uppercase()), "lower case is what makes journalctl ignore case");
    }

    #[test]
    fn repeated_lines_are_counted_and_the_last_is_told_without_its_header() {
        let line = |s, text: &str| Line { at: Timestamp::from_second(s).unwrap(), text: text.to_owned() };
        let refused = "E1122 16:00:00.1     573 a.go:1] Unable to register node \"n\" with API server: x";
        let hits = hits([line(2, refused), line(1, "I1 other"), line(3, &refused.replace(": x", ": y\u{1b}[2J"))]);
        assert_eq!((hits.lines, hits.since.unwrap().as_second()), (3, 1));
        let [hit] = hits.found.as_slice() else { panic!("{hits:?}") };
        assert_eq!((hit.count, hit.first.as_second(), hit.last.as_second()), (2, 2, 3));
        assert_eq!(hit.line, "Unable to register node \"n\" with API server: y\u{fffd}[2J");
        assert!(hits.lately(Signature::NotReported, Timestamp::from_second(3).unwrap()));
        assert!(!hits.lately(Signature::NotReported, Timestamp::from_second(4).unwrap()));
    }

    #[test]
    fn records_of_journalctl_are_read_whatever_is_in_them() {
        let at = r#""__REALTIME_TIMESTAMP":"1795363054626418""#;
        let text = |json: &str| parse(json).map(|l| l.text);
        assert_eq!(text(&format!(r#"{{"MESSAGE":"a",{at}}}"#)).as_deref(), Some("a"));
        assert_eq!(text(&format!(r#"{{"MESSAGE":[97,255],{at}}}"#)).as_deref(), Some("a\u{fffd}"));
        assert_eq!(text(&format!(r#"{{"MESSAGE":["a","b"],{at}}}"#)).as_deref(), Some("a b"));
        for bad in [
            format!(r#"{{"MESSAGE":null,{at}}}"#),
            format!("{{{at}}}"),
            "[]".into(),
            r#"{"MESSAGE":"a","__REALTIME_TIMESTAMP":"x"}"#.into(),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
        assert_eq!(parse(&format!(r#"{{"MESSAGE":"a",{at}}}"#)).unwrap().at.as_second(), 1_795_363_054);
    }
}
