# shellcheck shell=bash disable=SC2034
# fleet.sh -- sourced after cw.sh: what is done with the members of a cluster, each a machine $N-MEMBER
as() { local N=$N-$1; local M=$V/machines/$N CW_NODE=$N; shift; export CW_NODE; "$@"; }    # as MEMBER CMD... -- any function of lib.sh or cw.sh

settings() {    # shorter waits than the defaults; a lock ends after twice the timeout and a minute
  conf 20-fleet.toml <<< $'[check]\ninterval = "60s"\n[verify]\nstability = "12s"\ntimeout = "60s"\n[kubelet]\nrenew-before = "25d"
[fleet]\nlease-duration = "60s"\nsettle = "10s"\nretry = "5s"\nworkers-after = "0s"\nspread = "1s"\nkubeconfig = "'"${1:-}"$'"'
  # systemd in a container with cgroup v1 is not told that a unit's last process is gone, and waits for the whole time
  put 644 /dev/stdin /etc/systemd/system/certwarden.service.d/50-stop.conf <<< $'[Service]\nTimeoutStopSec=20s'; on systemctl daemon-reload
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
  else cp "$V/machines/${N%-*}-cp1/etc/kubernetes/pki/ca.key" "$key"; "$T/inside/due" "$M" "${1:-20}" kubelet; rm "$key"; fi
}
# overlaps MEMBER... -- transactions that began before another one had ended
overlaps() {
  local m d; for m; do for d in $(as "$m" txns); do jq -rs --arg m "$m" '[.[] | select(.at)] | "\(.[0].at) \(.[-1].at) \($m)"' "$d/ledger.jsonl"; done; done |
    sort | awk '{if (NR > 1 && $1 < end) print $3 " began at " $1 ", " who " ended at " end; if ($2 > end) {end = $2; who = $3}}'
}
# watch_begin, watch_end -- each second (WATCH_EACH), how many members of etcd are well: LOOKS, and how many of them WITHOUT a quorum
watch_begin() {
  E=$V/machines/$N.watch; rm -rf "$E"; mkdir "$E"; cp "$V/machines/$N-cp1$K"/pki/etcd/{ca.crt,healthcheck-client.crt,healthcheck-client.key} "$E/"
  ( while [ ! -e "$E/stop" ]; do
      n=0; for i in 1 2 3; do ! nsenter --net="/run/netns/cwvm-$N" curl -sf -m 2 -o /dev/null --cacert "$E/ca.crt" --cert "$E/healthcheck-client.crt" --key "$E/healthcheck-client.key" "https://10.99.0.1$i:2379/health" || n=$((n + 1)); done
      echo $n >> "$E/log"; sleep "${WATCH_EACH:-1}"; done ) & WATCH=$!
}
watch_end() { touch "$E/stop"; wait "$WATCH"; LOOKS=$(wc -l < "$E/log") WITHOUT=$(grep -c '^[01]$' "$E/log" || true); }
all_ready() { [ "$(as cp1 on kubectl get nodes --no-headers | awk '$2 != "Ready"' | wc -l)" = 0 ]; }
status_of() { on certwarden status | sed -n "s/^$1 *//p"; }
waits_for() { [[ $(status_of waits) == *"$1"* ]]; }
# at_work STATE MEMBER... -- the member whose newest transaction stands there
at_work() { local m; for m in "${@:2}"; do if as "$m" stands "$1"; then WHO=$m; return; fi; done; return 1; }
