use std::time::Duration;

use super::{Answer, Connection, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI, lease, nodes, objects, servers};
use crate::model::fleet::lease::Call;

/// Answers every request with the same body; the status goes through those that are treated apart.
#[derive(Debug)]
struct Says {
    status: u16,
    body: String,
}

impl KubeApi for Says {
    fn get(&self, _: &Connection, _: &str) -> Result<Answer, KubeError> {
        Ok(Answer { status: self.status, body: self.body.clone() })
    }
    fn post(&self, to: &Connection, path: &str, _: &str) -> Result<Answer, KubeError> {
        self.get(to, path)
    }
    fn put(&self, to: &Connection, path: &str, _: &str) -> Result<Answer, KubeError> {
        self.get(to, path)
    }
    fn whoami(&self, to: &Connection) -> Result<WhoAmI, KubeError> {
        objects::whoami(self, to)
    }
    fn node_ready(&self, to: &Connection, node: &str) -> Result<NodeReady, KubeError> {
        objects::node_ready(self, to, node)
    }
    fn node_lease(&self, to: &Connection, node: &str) -> Result<NodeLease, KubeError> {
        objects::node_lease(self, to, node)
    }
    fn cluster_configuration(&self, to: &Connection) -> Result<Option<String>, KubeError> {
        objects::cluster_configuration(self, to)
    }
}

/// What an API server answers: whatever it is, an error quotes only a bounded piece of it.
pub fn api(data: &[u8]) {
    let body = String::from_utf8_lossy(data).into_owned();
    let server = "https://127.0.0.1:6443".to_owned();
    let to = Connection { server, ca: None, identity: None, headers: Vec::new(), limit: Duration::ZERO };
    for status in [200, 404, 500] {
        let api = Says { status, body: body.clone() };
        let errors = [
            api.whoami(&to).err(),
            api.node_ready(&to, "node-1").err(),
            api.node_lease(&to, "node-1").err(),
            api.cluster_configuration(&to).err(),
        ];
        lease::exchange(&api, &to, "kube-system", "certwarden", &Call::Get);
        drop(nodes::page(&api, &to, "", ""));
        drop(nodes::own(&api, &to, "node-1"));
        nodes::kured(&api, &to);
        servers::api_servers(&api, &to);
        for error in errors.into_iter().flatten() {
            let said = error.to_string();
            assert!(said.len() <= 2000, "{} bytes", said.len());
        }
    }
}
