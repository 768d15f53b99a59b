# shellcheck shell=bash
# lib.sh -- sourced by run, the set-up and every scenario. A scenario works on the node $CW_NODE, whose tree is $M.
T=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
V=${CERTWARDEN_VM:-/var/lib/certwarden-vm} N=${CW_NODE:-node}
M=$V/machines/$N
# what is tested: the package $CERTWARDEN_DEB; or the program $CERTWARDEN_BIN by itself; or the package of a build for this run
export CERTWARDEN_VM=$V
if [ "${CERTWARDEN_BIN:-}" ]; then export CERTWARDEN_DEB=${CERTWARDEN_DEB:-}
elif [ "${CERTWARDEN_DEB:-}" ]; then export CERTWARDEN_DEB CERTWARDEN_BIN=$V/given/certwarden
else export CERTWARDEN_DEB=$V/package/certwarden.deb CERTWARDEN_BIN=${CARGO_TARGET_DIR:-${T%/*}/target}/release/certwarden; fi

saw() { echo "   · $*"; }                    # a figure worth showing: run prints these lines when the scenario passed
fail() { echo "FAILED: $*"; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: got '$2', want '$3'"; }
match() { grep -qE -- "$3" <<< "$2" || fail "$1: '$2' does not match /$3/"; }

# poll SECONDS WHAT CMD... -- until CMD succeeds
poll() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@"; do [ $SECONDS -lt $end ] || fail "waited too long: $what"; sleep 0.3; done
}

# on CMD... -- inside the node
on() {
  nsenter -t "$(cat "$M.leader")" -a env -i HOME=/root LANG=C.UTF-8 KUBECONFIG=/etc/kubernetes/admin.conf \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
put() { install -D -m "$1" "$2" "$M$3"; }    # put MODE FILE PATH-IN-NODE; a new inode: never through a link to the golden tree

new() { "$T/machine/clone" "$N"; }           # a node as after kubeadm init, not running
boot() { "$T/machine/start" "$N" || fail "no boot"; poll 180 "node Ready after boot" ready; poll 60 "control plane healthy after boot" healthy; }

api() { # api PATH CURL-OPTIONS...
  on curl -sS -m 5 --cacert /etc/kubernetes/pki/ca.crt --cert /etc/kubernetes/pki/apiserver-kubelet-client.crt \
    --key /etc/kubernetes/pki/apiserver-kubelet-client.key "https://10.99.0.2:6443$1" "${@:2}"
}
# healthy -- the hooks that run after the API server's start are done, controller-manager and scheduler answer
healthy() { [ "$(api /readyz)" = ok ] && for p in 10257 10259; do on curl -skf -m 5 -o /dev/null "https://127.0.0.1:$p/healthz" || return; done; }
heartbeat() { api /api/v1/nodes/node | jq -r '.status.conditions[]? | select(.type=="Ready" and .status=="True").lastHeartbeatTime | fromdate'; }

# ready [SINCE] -- Node Ready by a heartbeat not older than SINCE (default: this boot), and leased: the proof after a kubelet's start.
# A kubelet that was not restarted may send its next heartbeat in five minutes: then leased is what can be asked for.
ready() { local since=${1:-$(stat -c %Y "$M.leader")} h; h=$(heartbeat 2>/dev/null) && [ "${h:-0}" -ge "$since" ] && leased "$since"; }
leased() {    # leased SINCE -- Ready, and the lease renewed since
  local l; l=$(api /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node 2>/dev/null | jq -r '.spec.renewTime // empty | sub("\\..*";"Z") | fromdate')
  [ "${l:-0}" -ge "$1" ] && [ "$(heartbeat 2>/dev/null)" ]
}
