# shellcheck shell=bash
# restarts.sh -- sourced after cw.sh and fleet.sh, for 95-restarts: renewals that restart the kubelet, on a healthy node
# and with new kubelets that never post their status
LEAF=front-proxy-client
# line WHAT WAY SINCE MORE -- what became of the renewal that has just ended, for the log and $RESULTS
line() { echo "$N $1 $2 exit $RC $(secs "$EPOCHREALTIME - $3") s: $4" | tee -a "$RESULTS"; }
secs() { awk "BEGIN {printf \"%.1f\", $1}"; }
# agreed SINCE -- the API says so too; one that is slow to answer, beside four other nodes on two cores, is asked again
agreed() { for _ in 1 2 3 4 5; do ready "$1" && return; sleep 2; done; return 1; }
# good -- one renewal, begun at any moment of a second: proven, by the product and by what the API says
good() {
  sleep "0.$(printf %03d $((RANDOM % 1000)))"; local t=$EPOCHREALTIME b
  cw renew $LEAF -o json > "$M.null"; b=$(began)
  if [ "$RC" = 0 ] && [ "$(say .outcome)" = verified ] && agreed "${t%.*}"; then
    line proven good "$t" "$(secs "$EPOCHREALTIME - $b / 1e6") s after the kubelet began at .${b: -6:3}"
  else line FALSE-ALARM good "$t" "$(say .reason)"; anew; fi
}
# anew -- certwarden remembers nothing, and the node is Ready
anew() {
  rm -rf "$M/var/lib/certwarden"; on systemctl restart kubelet
  poll 300 "Node Ready again" ready "$(date +%s)"
}

# bad WAY -- the kubelet that is started for the new certificate comes up, and its status is never posted: it is caught
bad() {
  local t=$EPOCHREALTIME p s0 what=MISSED; s0=$(serial pki/$LEAF.crt); "$1"
  on certwarden renew $LEAF -o json > "$M.out" 2> "$M.err" & p=$!
  until stands rolling-back || ! kill -0 $p 2> /dev/null; do sleep 0.2; done
  touch "$M.over"; "$1-over"; RC=0; wait $p || RC=$?; cat "$M.err"
  [ "$RC" = 0 ] || what=caught-and-not-rolled-back; [ "$RC $(serial pki/$LEAF.crt)" != "2 $s0" ] || what=caught
  line $what "$1" "$t" "$(jq -r .reason "$M.out")"; wait; rm -f "$M.over"; anew
}
# every write of a Node's status is refused by a webhook that does not answer; leases are renewed
webhook() {
  jq -n '{apiVersion: "admissionregistration.k8s.io/v1", kind: "ValidatingWebhookConfiguration",
    metadata: {name: "never"}, webhooks: [{name: "never.lab.io", sideEffects: "None",
      admissionReviewVersions: ["v1"], failurePolicy: "Fail", clientConfig: {url: "https://127.0.0.1:9/"},
      rules: [{apiGroups: [""], apiVersions: ["v1"], operations: ["UPDATE"], resources: ["nodes/status"]}]}]}'
}
no-status() { webhook | on kubectl apply -f -; sleep 2; }
no-status-over() { on kubectl delete validatingwebhookconfiguration never; }
no-api() { "$T/inside/break-kubelet" never-ready "$K/pki/$LEAF.crt"; }
no-api-over() { rm "$M/etc/systemd/system/kubelet.service.d/50-broken.conf"; on systemctl daemon-reload; }
frozen() { "$T/inside/break-kubelet" frozen "$K/pki/$LEAF.crt"; }
frozen-over() { no-api-over; }
# the old kubelet posts up to its very end, and somebody renews the lease for the new one, which reaches nobody
last-words() { "$T/inside/break-kubelet" last-words "$K/pki/$LEAF.crt"; imitate & }
last-words-over() { no-api-over; }
imitate() {
  local p lease=/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node
  p=$(on systemctl show -p MainPID --value kubelet)
  until [ -e "$M.over" ]; do
    on test -d "/proc/$p" || api $lease -o /dev/null -X PATCH \
      -H 'Content-Type: application/merge-patch+json' -d "{\"spec\": {\"renewTime\": \"$(date -u +%FT%T.%6NZ)\"}}"
    sleep 2
  done
}
