# shellcheck shell=bash
# api.sh -- sourced by lib.sh: what the node's API says, and whether the node is Ready
api() { # api PATH CURL-OPTIONS...
  on curl -sS -m 5 --cacert /etc/kubernetes/pki/ca.crt --cert /root/admin/certificate --key /root/admin/key \
    "https://10.99.0.2:6443$1" "${@:2}"
}
# healthy -- the hooks that run after the API server's start are done, controller-manager and scheduler answer
healthy() {
  [ "$(api /readyz)" = ok ] &&
    for p in 10257 10259; do on curl -skf -m 5 -o /dev/null "https://127.0.0.1:$p/healthz" || return; done
}
heartbeat() {
  api /api/v1/nodes/node |
    jq -r '.status.conditions[]? | select(.type=="Ready" and .status=="True").lastHeartbeatTime | fromdate'
}
micros() { date -ud "${1:-1970-01-01}" +%s%6N; }
lease() {
  micros "$(api /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node 2> /dev/null |
    jq -r '.spec.renewTime // empty')"
}
# began -- when the kubelet's process of now began, by the node's clock in microseconds
began() {
  micros "$(on systemctl show --timestamp=us+utc -p ExecMainStartTimestamp --value kubelet | cut -d' ' -f2,3)"
}

# ready [SINCE] -- Node Ready by a heartbeat not older than SINCE (in seconds; default: this boot), and leased: proof
# after a kubelet's start. Where the kubelet itself began since, both are that process's own: heartbeats have whole
# seconds and the first may come in the very second of the start, leases have microseconds.
# A kubelet that was not restarted may send its next heartbeat in five minutes: then leased is what can be asked for.
ready() {
  local since=${1:-$(stat -c %Y "$M.leader")} b h; b=$(began) h=$(heartbeat 2> /dev/null) || return
  [ "${h:-0}" -ge "$since" ] && leased "$since" || return
  [ "$b" -lt "${since}000000" ] || { [ "$h" -ge $((b / 1000000)) ] && [ "$(lease)" -ge "$b" ]; }
}
# leased SINCE -- Ready, and the lease renewed since
leased() { [ "$(lease)" -gt "$(($1 + 1))000000" ] && [ "$(heartbeat 2> /dev/null)" ]; }
