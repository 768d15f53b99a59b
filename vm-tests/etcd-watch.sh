# shellcheck shell=bash disable=SC2034
# etcd-watch.sh -- sourced after fleet.sh: whether etcd has a quorum while something is done to its members
# watch_begin, watch_end -- each second (WATCH_EACH), how many members of etcd are healthy: LOOKS, and how many of them
# WITHOUT a quorum
watch_begin() {
  E=$V/machines/$N.watch; rm -rf "$E"; mkdir "$E"
  cp "$V/machines/$N-cp1$K"/pki/etcd/{ca.crt,healthcheck-client.{crt,key}} "$E/"
  local asks=(nsenter --net="/run/netns/cwvm-$N" curl -sf -m 2 -o /dev/null --cacert "$E/ca.crt"
    --cert "$E/healthcheck-client.crt" --key "$E/healthcheck-client.key")
  ( while [ ! -e "$E/stop" ]; do
      n=0; for i in 1 2 3; do ! "${asks[@]}" "https://10.99.0.1$i:2379/health" || n=$((n + 1)); done
      echo $n >> "$E/log"; sleep "${WATCH_EACH:-1}"; done ) & WATCH=$!
}
watch_end() { touch "$E/stop"; wait "$WATCH"; LOOKS=$(wc -l < "$E/log") WITHOUT=$(grep -c '^[01]$' "$E/log" || true); }
