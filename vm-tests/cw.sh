# shellcheck shell=bash
# cw.sh -- lib.sh and what scenarios say about certificates and certwarden
. "${BASH_SOURCE[0]%/*}/lib.sh"
K=/etc/kubernetes
. "$T/leaves.sh"

conf() { mkdir -p "$M/etc/certwarden/config.d"; cat > "$M/etc/certwarden/config.d/$1"; chmod 644 "$M/etc/certwarden/config.d/$1"; }
# quick -- shorter waits than the defaults, where the scenario is not about them: a kubelet that crashes does so within 12 s (RestartSec is 10 s)
quick() { conf 20-quick.toml <<< $'[verify]\nstability = "12s"\ntimeout = "60s"'; }
# cw ARGS... -- certwarden in the node: RC, OUT and ERR, all three shown in the log
cw() {
  echo "+ certwarden $*"; RC=0; on certwarden "$@" > "$M.out" 2> "$M.err" || RC=$?
  OUT=$(cat "$M.out") ERR=$(cat "$M.err"); echo "$OUT"; echo "$ERR"; echo "+ exit $RC"
}
say() { jq -r "$1" <<< "$OUT"; }              # from the JSON of the last cw

# container NAME -- the running container of that static pod, as containerd says
container() { comm -12 <(on ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.container.name\"==$1" | sort) <(on ctr -n k8s.io tasks ls | awk '$3 == "RUNNING" {print $1}' | sort); }
txns() { find "$M/var/lib/certwarden/transactions" -mindepth 1 -maxdepth 1 2>/dev/null | sort; }
states() { local d; for d in $(txns); do jq -r 'select(.state) | .state' "$d/ledger.jsonl" 2>/dev/null; done | uniq | paste -sd' '; }
state() { states | awk '{print $NF}'; }       # where the newest transaction stands
stands() { [ "$(state)" = "$1" ]; }
# while_going PID CMD... -- CMD, but a renewal that has ended already fails at once
while_going() { local p=$1; shift; "$@" || { kill -0 "$p" 2>/dev/null || fail "renew ended too early: $(tail -n3 "$M.out")"; return 1; }; }
enable() { systemctl --root="$M" -q enable "$@"; }              # at the next boot
ended() { grep -qE ' (verified|rolled-back|rollback-failed|discarded)$' <<< " $(states)"; }
