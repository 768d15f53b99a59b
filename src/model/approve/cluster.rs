//! What belongs to the cluster as a whole, and to no single node: the API's names and addresses, and those of Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::model::policy::Network;

/// kube-apiserver's own, where no flag says otherwise (kubernetes: `pkg/controlplane/apiserver/options/options.go`).
const DEFAULT_RANGE: &str = "10.0.0.0/24";

/// Names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// What the API is called by clients, and by the certificate that it shows them.
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Where the API servers themselves listen, by their own word: each is some control plane's address.
    endpoints: BTreeSet<IpAddr>,
    /// Out of which Services get their addresses.
    ranges: Vec<Network>,
    services: BTreeSet<IpAddr>,
    /// `externalIPs` and load balancers: may be nodes' own addresses, and need not.
    outside: BTreeSet<IpAddr>,
    /// A Service could not be read: any address may be its.
    hidden: bool,
}

impl Cluster {
    /// The API by the URL of a kubeconfig.
    pub fn add_server(&mut self, url: &str) {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        self.add_name(host);
    }

    /// The API by the names of its certificate, as `CertFacts::sans` has them.
    pub fn add_sans<'a>(&mut self, sans: impl IntoIterator<Item = &'a String>) {
        for name in sans.into_iter().filter_map(|san| san.strip_prefix("DNS:").or_else(|| san.strip_prefix("IP:"))) {
            self.add_name(name);
        }
    }

    fn add_name(&mut self, name: &str) {
        if let Ok(ip) = name.parse::<IpAddr>() {
            self.addresses.insert(ip.to_canonical());
        } else if !name.is_empty() {
            self.names.insert(name.trim_end_matches('.').to_ascii_lowercase());
        }
    }

    /// The API server's `--service-cluster-ip-range`, or its default.
    ///
    /// # Errors
    /// A clause: a range that cannot be understood would be no range.
    pub fn add_ranges(&mut self, flag: Option<&str>) -> Result<(), String> {
        for range in flag.unwrap_or(DEFAULT_RANGE).split(',').map(str::trim).filter(|r| !r.is_empty()) {
            self.ranges.push(range.parse()?);
        }
        Ok(())
    }

    /// An `Endpoints` object of the Service `kubernetes`.
    pub fn add_endpoints(&mut self, object: &Value) {
        #[derive(Deserialize)]
        struct Endpoints {
            #[serde(default)]
            subsets: Vec<Subset>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Subset {
            #[serde(default)]
            addresses: Vec<Address>,
            #[serde(default)]
            not_ready_addresses: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            #[serde(default)]
            ip: String,
        }
        let Ok(Endpoints { subsets }) = Endpoints::deserialize(object) else { return };
        let all = subsets.into_iter().flat_map(|s| s.addresses.into_iter().chain(s.not_ready_addresses));
        self.endpoints.extend(all.filter_map(|a| a.ip.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()));
    }

    /// A `Service`.
    pub fn add_service(&mut self, object: &Value) {
        let texts = |path: &str| {
            let list = object.pointer(path).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).filter_map(|ip| ip.parse().ok()).collect::<Vec<IpAddr>>()
        };
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let one = |path: &str| text(path).parse::<IpAddr>().ok();
        let own: Vec<IpAddr> = one("/spec/clusterIP").into_iter().chain(texts("/spec/clusterIPs")).collect();
        if (text("/metadata/namespace"), text("/metadata/name")) == ("default", "kubernetes") {
            self.addresses.extend(own.iter().map(IpAddr::to_canonical));
        }
        self.services.extend(own.iter().map(IpAddr::to_canonical));
        let balancers = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).into_iter().flatten();
        let balancers = balancers.filter_map(|i| i.get("ip")?.as_str()?.parse::<IpAddr>().ok());
        let outside = balancers.chain(one("/spec/loadBalancerIP")).chain(texts("/spec/externalIPs"));
        self.outside.extend(outside.map(|ip| ip.to_canonical()));
    }

    /// A Service that could not be read.
    pub fn add_hidden_service(&mut self) {
        self.hidden = true;
    }

    /// A `ServiceCIDR`.
    pub fn add_service_cidr(&mut self, object: &Value) {
        let cidrs = object.pointer("/spec/cidrs").and_then(Value::as_array).into_iter().flatten();
        let cidrs = cidrs.filter_map(|c| c.as_str()?.parse::<Network>().ok());
        for cidr in cidrs {
            if !self.ranges.contains(&cidr) {
                self.ranges.push(cidr);
            }
        }
    }

    /// Whether clients call the API so.
    pub(super) fn is_api_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether an API server itself listens there.
    pub(super) fn is_endpoint(&self, ip: IpAddr) -> bool {
        self.endpoints.contains(&ip)
    }

    /// Whether clients find the API there, and it is none of the servers' own: a virtual address, a load balancer.
    pub(super) fn is_api_address(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip) && !self.endpoints.contains(&ip)
    }

    pub(super) fn is_service(&self, ip: IpAddr) -> bool {
        self.services.contains(&ip)
    }

    /// Whether a Service gets such an address.
    pub(super) fn is_in_range(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|r| r.contains(ip))
    }

    /// Whether a Service that could not be read may have it.
    pub(super) fn is_hidden(&self, ip: IpAddr) -> bool {
        self.hidden && self.is_in_range(ip)
    }

    /// Whether a Service is reached there from outside the cluster.
    pub(super) fn is_outside(&self, ip: IpAddr) -> bool {
        self.hidden || self.outside.contains(&ip)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_api_is_known_by_kubeconfigs_its_certificate_and_its_own_service() {
        let mut cluster = Cluster::default();
        for url in ["https://API.example.org:6443", "https://[fd00::9]:6443/x", "https://10.0.0.100:6443", "https://"] {
            cluster.add_server(url);
        }
        cluster.add_sans(&["DNS:k8s.Example.org.".to_owned(), "IP:10.0.0.101".into(), "URI:x".into()]);
        for name in ["api.example.org", "k8s.example.org"] {
            assert!(cluster.is_api_name(name), "{name}");
        }
        assert!(!cluster.is_api_name(""));
        for address in ["10.0.0.100", "10.0.0.101", "fd00::9"] {
            assert!(cluster.is_api_address(ip(address)), "{address}");
        }
        cluster.add_endpoints(
            &json!({"subsets": [{"addresses": [{"ip": "10.0.0.100"}], "notReadyAddresses": [{"ip": "10.0.0.8"}]}]}),
        );
        assert!(cluster.is_endpoint(ip("10.0.0.100")) && cluster.is_endpoint(ip("10.0.0.8")));
        assert!(!cluster.is_api_address(ip("10.0.0.100")), "a server's own");
    }

    #[test]
    fn services_are_known_by_their_objects_and_their_ranges() {
        let mut cluster = Cluster::default();
        cluster.add_ranges(Some("10.96.0.0/12, fd01::/108")).unwrap();
        cluster.add_service_cidr(&json!({"spec": {"cidrs": ["172.30.0.0/16"]}}));
        cluster.add_service(&json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd01::1"]}}));
        cluster.add_service(&json!({"metadata": {"name": "kubernetes", "namespace": "other"},
            "spec": {"clusterIP": "None", "externalIPs": ["192.0.2.7"], "loadBalancerIP": "192.0.2.8"},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "x"}]}}}));
        for address in ["10.96.0.1", "fd01::1"] {
            assert!(cluster.is_service(ip(address)) && cluster.is_api_address(ip(address)), "{address}");
        }
        for address in ["10.99.0.2", "fd01::5", "172.30.1.1"] {
            assert!(cluster.is_in_range(ip(address)) && !cluster.is_service(ip(address)), "{address}");
        }
        for address in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
            assert!(cluster.is_outside(ip(address)) && !cluster.is_api_address(ip(address)), "{address}");
        }
        let mut default = Cluster::default();
        default.add_ranges(None).unwrap();
        assert!(default.is_in_range(ip("10.0.0.1")));
        assert!(default.add_ranges(Some("nonsense")).is_err());
    }
}
