# shellcheck shell=bash
# k8s.sh -- sourced after lib.sh: what follows from the Kubernetes in $V/bin. Its programs are asked; nothing here or in
# a scenario names a version.
kubeadm_defaults() { "$V/bin/kubeadm" config print init-defaults 2> /dev/null; }
k8s_version() { "$V/bin/kubeadm" version -o short; }
kubeadm_api() { kubeadm_defaults | awk '$1 == "apiVersion:" {print $2; exit}'; }
# cri_socket -- a URL where kubeadm writes one, a path before
cri_socket() {
  local url=''; case $(kubeadm_defaults) in *unix://*) url=unix://;; esac
  echo "$url/run/containerd/containerd.sock"
}
# registration NAME ADDRESS -- nodeRegistration; extra arguments are a list since kubeadm.k8s.io/v1beta4, a map before
registration() {
  local extra="{node-ip: $2}"
  case $(kubeadm_api) in */v1beta[123]) ;; *) extra="[{name: node-ip, value: $2}]";; esac
  echo "nodeRegistration: {name: $1, criSocket: \"$(cri_socket)\", kubeletExtraArgs: $extra}"
}
# init_yaml NAME ADDRESS [ENDPOINT] -- the configuration of `kubeadm init`. The host may have cgroup v1 only: a kubelet
# that knows failCgroupV1 must be told
init_yaml() {
  local api; api=$(kubeadm_api)
  cat << U
apiVersion: $api
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: $2, bindPort: 6443}
$(registration "$1" "$2")
---
apiVersion: $api
kind: ClusterConfiguration
kubernetesVersion: $(k8s_version)
imageRepository: vm.local
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/12}
${3:+controlPlaneEndpoint: "$3"}
---
$(cat "$T/node/kubelet.yaml")
$("$V/bin/kubelet" --help 2> /dev/null | grep -q -- --fail-cgroupv1 && echo 'failCgroupV1: false')
U
}
# join_yaml NAME ADDRESS ENDPOINT TOKEN CA-HASH [CONTROL-PLANE] -- the configuration of `kubeadm join`
join_yaml() {
  cat << U
apiVersion: $(kubeadm_api)
kind: JoinConfiguration
discovery: {bootstrapToken: {apiServerEndpoint: "$3", token: $4, caCertHashes: ["sha256:$5"]}}
$(registration "$1" "$2")
${6:-}
U
}
# keep_admin -- admin.conf's user as it is after `kubeadm init`, below /root/admin: the harness asks the API by it,
# whatever becomes of the files under test (the API server's own client of kubelets may not read Nodes in newer
# versions)
keep_admin() {
  mkdir -p "$M/root/admin"
  for d in certificate key; do
    awk -v k="client-$d-data:" '$1 == k {print $2}' "$M/etc/kubernetes/admin.conf" | base64 -d > "$M/root/admin/$d"
  done
}
