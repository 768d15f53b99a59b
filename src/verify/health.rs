//! Health endpoints.

use std::time::Duration;

use super::{REQUEST, pause};
use crate::host::Host;
use crate::host::clock::Deadline;
use crate::host::kube::{Connection, Identity, KubeError};
use crate::model::component::Component;
use crate::model::plain;

/// Between looks.
const LOOK: Duration = Duration::from_secs(1);

/// What a health endpoint said last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthSeen {
    pub component: Component,
    pub url: String,
    pub ok: bool,
    pub detail: String,
}

/// One request. `ca` None: the server's certificate is not verified, as for the self-signed ports of
/// kube-controller-manager and kube-scheduler.
pub fn health(
    host: &Host,
    component: Component,
    url: &str,
    ca: Option<&[u8]>,
    identity: Option<&Identity>,
    limit: Duration,
) -> HealthSeen {
    let (server, path) = split(url);
    let to = Connection {
        server: server.to_owned(),
        ca: ca.map(<[u8]>::to_vec),
        identity: identity.cloned(),
        headers: Vec::new(),
        limit: limit.min(REQUEST),
    };
    // without anonymous access its health is for those only who log in; that it says so shows that it is up, and no more:
    // with an identity an answer is wanted
    let may_refuse = component == Component::KubeApiserver && identity.is_none();
    let (ok, detail) = match host.kube.get(&to, path) {
        Ok(a) if a.status == 200 => (true, "healthy".to_owned()),
        Ok(a) if a.status == 403 && may_refuse => (true, "answers (403 Forbidden)".to_owned()),
        Ok(a) => (false, format!("answered {}: {}", a.status, first_line(&a.body))),
        Err(KubeError::Unauthorized { .. }) if may_refuse => (true, "answers (401 Unauthorized)".to_owned()),
        Err(e) => (false, e.to_string()),
    };
    HealthSeen { component, url: url.to_owned(), ok, detail }
}

/// Asks until the endpoint is well, `limit` is over or the caller does not want to go on.
pub fn await_health(
    host: &Host,
    component: Component,
    url: &str,
    (ca, identity): (Option<&[u8]>, Option<&Identity>),
    limit: Duration,
    keep_going: &dyn Fn() -> bool,
) -> HealthSeen {
    let until = Deadline::after(host.clock.as_ref(), limit);
    loop {
        let seen = health(host, component, url, ca, identity, REQUEST);
        if seen.ok || !pause(host, LOOK, until, keep_going) {
            return seen;
        }
    }
}

/// Server and path of a URL.
fn split(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url.get(authority..).and_then(|rest| rest.find('/')).map(|at| authority + at);
    path.and_then(|at| url.split_at_checked(at)).unwrap_or((url, "/"))
}

fn first_line(body: &str) -> String {
    plain::line(body.lines().next().unwrap_or("nothing"), plain::CLAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::crypto::testing::{Ca, Leaf};
    use crate::host::kube::testing::Server;
    use crate::verify::testing::host;

    #[test]
    fn a_url_is_taken_apart() {
        assert_eq!(split("https://[::1]:10257/healthz?x"), ("https://[::1]:10257", "/healthz?x"));
        assert_eq!(split("http://127.0.0.1:2381"), ("http://127.0.0.1:2381", "/"));
        assert_eq!(split(""), ("", "/"));
    }

    #[test]
    fn a_refusal_is_no_health_where_an_identity_was_shown() {
        let ca = Ca::new("self");
        let (pair, identity) = (ca.issue(&Leaf::server("localhost", &[])), ca.issue(&Leaf::client("admin", &[])));
        for (status, ok) in [(200, true), (401, false), (403, false), (500, false)] {
            let server = Server::start(&pair, None, move |_| (status, "reason".into()));
            let url = format!("{}/readyz", server.url());
            let seen = health(&host(), Component::KubeApiserver, &url, None, Some(&identity), REQUEST);
            assert_eq!(seen.ok, ok, "{seen:?}");
        }
    }

    #[test]
    fn healthy_is_200_and_only_the_api_server_may_ask_for_a_login() {
        let pair = Ca::new("self").issue(&Leaf::server("localhost", &[]));
        for (status, component, ok) in [
            (200, Component::KubeScheduler, true),
            (500, Component::KubeApiserver, false),
            (401, Component::KubeApiserver, true),
            (403, Component::KubeApiserver, true),
            (401, Component::KubeScheduler, false),
            (403, Component::KubeControllerManager, false),
        ] {
            let server = Server::start(&pair, None, move |_| (status, "reason\nmore".into()));
            let url = format!("{}/readyz", server.url());
            let seen = await_health(&host(), component, &url, (None, None), Duration::from_millis(100), &|| true);
            assert_eq!(seen.ok, ok, "{seen:?}");
            assert!(server.seen.lock().unwrap().join("").starts_with("GET /readyz HTTP/1.1"));
        }
    }
}
