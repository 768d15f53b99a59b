//! The credentials with which the API server goes to its egress proxies: konnectivity, mostly (kubernetes:
//! `staging/src/k8s.io/apiserver/pkg/apis/apiserver/types.go:EgressSelectorConfiguration`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Scene;
use super::manifests::Container;
use crate::model::yaml;

/// The flag of the API server.
pub(super) const FLAG: &str = "egress-selector-config-file";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    egress_selections: Option<Vec<Selection>>,
}

#[derive(Deserialize)]
struct Selection {
    connection: Option<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    transport: Option<Transport>,
}

/// A socket on this node has no certificates.
#[derive(Deserialize)]
struct Transport {
    tcp: Option<Tcp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tcp {
    tls_config: Option<TlsConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TlsConfig {
    ca_bundle: Option<String>,
    client_key: Option<String>,
    client_cert: Option<String>,
}

/// Where the files of one proxy lie on the host.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    pub(super) ca: Option<PathBuf>,
    pub(super) pair: Option<(PathBuf, PathBuf)>,
}

/// What the configuration of a container says, if its flag names one.
pub(super) fn proxies(scene: &mut Scene<'_>, container: &Container) -> Vec<Proxy> {
    let Some(path) = container.path_flag(FLAG) else { return Vec::new() };
    let read = scene.root.read_text(&path).map_err(|e| e.to_string());
    match read.and_then(|text| yaml::parse(&text).map_err(|e| format!("{}: {e}", path.display()))) {
        Ok(configuration) => files(configuration, container),
        Err(why) => {
            scene.notes.push(format!("the credentials for egress proxies are not known (--{FLAG}): {why}"));
            Vec::new()
        }
    }
}

fn files(configuration: Configuration, container: &Container) -> Vec<Proxy> {
    let selections = configuration.egress_selections.into_iter().flatten();
    let tls = selections.filter_map(|s| s.connection?.transport?.tcp?.tls_config);
    // a component's working directory is /
    let on_host = |path: Option<String>| {
        let path = path.filter(|p| !p.is_empty())?;
        Some(container.on_host(&Path::new("/").join(path).display().to_string()))
    };
    tls.map(|tls| Proxy { ca: on_host(tls.ca_bundle), pair: on_host(tls.client_cert).zip(on_host(tls.client_key)) })
        .collect()
}
