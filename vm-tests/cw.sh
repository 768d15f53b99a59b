# shellcheck shell=bash
# cw.sh -- lib.sh and what scenarios say about certificates and certwarden
. "${BASH_SOURCE[0]%/*}/lib.sh"
K=/etc/kubernetes
. "$T/leaves.sh"

conf() {
  local d=$M/etc/certwarden/config.d; mkdir -p "$d"
  cat > "$d/$1"; chmod 644 "$d/$1"
}
# cw ARGS... -- certwarden in the node: RC, OUT and ERR, all three shown in the log
cw() {
  echo "+ certwarden $*"; RC=0; on certwarden "$@" > "$M.out" 2> "$M.err" || RC=$?
  OUT=$(cat "$M.out") ERR=$(cat "$M.err"); echo "$OUT"; echo "$ERR"; echo "+ exit $RC"
}
say() { jq -r "$1" <<< "$OUT"; }              # from the JSON of the last cw

txns() { find "$M/var/lib/certwarden/transactions" -mindepth 1 -maxdepth 1 2>/dev/null | sort; }
states() {
  local d; for d in $(txns); do jq -r 'select(.state) | .state' "$d/ledger.jsonl" 2>/dev/null; done |
    uniq | paste -sd' '
}
state() { states | awk '{print $NF}'; }       # where the newest transaction stands
stands() { [ "$(state)" = "$1" ]; }
