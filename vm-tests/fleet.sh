# shellcheck shell=bash disable=SC2034,SC2016
# fleet.sh -- sourced after cw.sh: what is done with the members of a cluster, each a machine $N-MEMBER
# as MEMBER CMD... -- any function of lib.sh or cw.sh
as() { local N=$N-$1; local M=$V/machines/$N CW_NODE=$N; shift; export CW_NODE; "$@"; }

settings() {    # shorter waits than the defaults; a lock ends after twice the timeout and a minute
  conf 20-fleet.toml << U
check.interval = "60s"
verify.stability = "12s"
verify.timeout = "60s"
kubelet.renew-before = "25d"
[fleet]
lease-duration = "60s"
settle = "10s"
retry = "5s"
workers-after = "0s"
spread = "1s"
kubeconfig = "${1:-}"
U
  # systemd in a container with cgroup v1 is not told that a unit's last process is gone, and waits for the whole time
  put 644 /dev/stdin /etc/systemd/system/certwarden.service.d/50-stop.conf <<< $'[Service]\nTimeoutStopSec=20s'
  on systemctl daemon-reload
}
# worker_credential -- what lets w1 ask with its kubelet's certificate, with the policy where this API server has such
worker_credential() {
  local f files=(fleet); ! as cp1 on kubectl get validatingadmissionpolicies > /dev/null 2>&1 || files+=(fleet-policy)
  for f in "${files[@]}"; do
    as cp1 put 644 "${T%/*}/packaging/kubernetes/$f.yaml" "/root/$f.yaml"
    as cp1 on kubectl apply -f "/root/$f.yaml" > /dev/null || fail "$f.yaml is refused"
  done
  as w1 settings /etc/kubernetes/kubelet.conf
}
# due_again [DAYS] -- all that this member has ends in so many days (20), and certwarden remembers nothing
due_again() {
  on systemctl stop certwarden; rm -rf "$M/var/lib/certwarden"; local key=$M/etc/kubernetes/pki/ca.key
  if [ -e "$key" ]; then "$T/inside/due" "$M" "${1:-20}"
  else
    cp "$V/machines/${N%-*}-cp1/etc/kubernetes/pki/ca.key" "$key"
    "$T/inside/due" "$M" "${1:-20}" kubelet; rm "$key"
  fi
}
# overlaps MEMBER... -- transactions that began before another one had ended
overlaps() {
  local m d span='[.[] | select(.at)] | "\(.[0].at) \(.[-1].at) \($m)"'
  for m; do for d in $(as "$m" txns); do jq -rs --arg m "$m" "$span" "$d/ledger.jsonl"; done; done | sort | awk '
    NR > 1 && $1 < end {print $3 " began at " $1 ", " who " ended at " end}
    $2 > end {end = $2; who = $3}'
}
all_ready() { [ "$(as cp1 on kubectl get nodes --no-headers | awk '$2 != "Ready"' | wc -l)" = 0 ]; }
status_of() { on certwarden status | sed -n "s/^$1 *//p"; }
waits_for() { [[ $(status_of waits) == *"$1"* ]]; }
# at_work STATE MEMBER... -- the member whose newest transaction stands there
at_work() { local m; for m in "${@:2}"; do if as "$m" stands "$1"; then WHO=$m; return; fi; done; return 1; }
