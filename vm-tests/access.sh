# shellcheck shell=bash
# access.sh -- sourced after fleet.sh: what w1 may do with its kubelet's certificate, as the API server decides it
CM=/api/v1/namespaces/kube-system/configmaps
LEASES=/apis/coordination.k8s.io/v1/namespaces/kube-system/leases
MARKS=$CM/certwarden-workers LOCK=$CM/certwarden-worker-0
# by_kubelet METHOD PATH [BODY [TYPE]] -- the status of the answer
by_kubelet() {
  local pem=/var/lib/kubelet/pki/kubelet-client-current.pem type=${4:-application/json-patch+json}
  as w1 on curl -sS -m 5 -o /dev/null -w '%{http_code}' --cacert /etc/kubernetes/pki/ca.crt --cert $pem --key $pem \
    -X "$1" -H "Content-Type: $type" ${3:+-d "$3"} "https://10.99.0.100:6443$2"
}
# data PATH DATA -- a JSON patch of all data of that ConfigMap as it is now
data() {
  local version; version=$(as cp1 on kubectl get --raw "$1" | jq -r .metadata.resourceVersion)
  printf '[{"op":"add","path":"/metadata/resourceVersion","value":"%s"},{"op":"add","path":"/data","value":%s}]' \
    "$version" "$2"
}
by_admin() { as cp1 on kubectl -n kube-system patch configmap "$1" --type=json -p "$(data "$CM/$1" "$2")" > /dev/null; }
# may WHAT STATUS METHOD PATH...
may() { is "w1: $1" "$(by_kubelet "${@:3}")" "$2"; }
# access -- with the policy where this API server knows such a thing; it leaves no mark and no lock behind
access() {
  local me=$N-w1 status=200 merge=application/merge-patch+json
  ! as cp1 on kubectl get validatingadmissionpolicy certwarden-workers > /dev/null 2>&1 || status=422
  may "reads marks" 200 GET "$MARKS"; may "reads its lock" 200 GET "$LOCK"
  may "reads other ConfigMaps" 403 GET "$CM/other"; may "lists ConfigMaps" 403 GET "$CM"
  may "reads the control planes' lock" 200 GET "$LEASES/certwarden-control-plane"; may "lists Leases" 403 GET "$LEASES"
  may "changes the control planes' lock" 403 PATCH "$LEASES/certwarden-control-plane" '{"spec":{}}' $merge
  may "deletes the control planes' lock" 403 DELETE "$LEASES/certwarden-control-plane"
  may "pauses" 403 PATCH "$LEASES/certwarden" '{"metadata":{"annotations":{"certwarden.io/pause":"x"}}}' $merge
  may "deletes a lock" 403 DELETE "$LOCK"; may "looks for kured" 200 GET \
    "/apis/apps/v1/daemonsets?fieldSelector=metadata.name%3Dkured&limit=5"
  may "lists DaemonSets" 403 GET "/apis/apps/v1/daemonsets?limit=5"

  may "takes a lock" 200 PATCH "$LOCK" "$(data "$LOCK" '{"holderIdentity":"'"$me"'_1"}')"
  may "replaces a version that is gone" 409 PATCH "$LOCK" \
    '[{"op":"add","path":"/metadata/resourceVersion","value":"1"},{"op":"add","path":"/data","value":{}}]'
  may "releases its lock" 200 PATCH "$LOCK" "$(data "$LOCK" '{"lastHolder":"'"$me"'_1"}')"
  may "makes another a holder" $status PATCH "$LOCK" "$(data "$LOCK" '{"holderIdentity":"other_1"}')"
  by_admin certwarden-worker-0 '{"holderIdentity":"other_1"}'
  may "releases another's lock" $status PATCH "$LOCK" "$(data "$LOCK" '{}')"
  by_admin certwarden-worker-0 '{}'

  by_admin certwarden-workers '{"other":"{}"}'
  may "marks itself" 200 PATCH "$MARKS" "$(data "$MARKS" '{"other":"{}","'"$me"'":"{}"}')"
  may "removes another's mark" $status PATCH "$MARKS" "$(data "$MARKS" '{"'"$me"'":"{}"}')"
  by_admin certwarden-workers '{"other":"{}","'"$me"'":"{}"}'
  may "removes its own" 200 PATCH "$MARKS" "$(data "$MARKS" '{"other":"{}"}')"
  may "adds a label" $status PATCH "$MARKS" '{"metadata":{"labels":{"a":"'$RANDOM'"}}}' $merge
  by_admin certwarden-workers '{}'; saw "access of a kubelet's certificate: as documented; entries of others: $status"
}
