# shellcheck shell=bash
# approver.sh -- cw.sh, and nodes of which somebody else is root, who has their credentials and nothing else: 87
. "${BASH_SOURCE[0]%/*}/cw.sh"
E=$M/var/evil CSRS=/apis/certificates.k8s.io/v1/certificatesigningrequests

# as NODE PATH CURL-OPTIONS... -- the API by that node's credential
as() {
  on curl -sS -m 10 --cacert $K/pki/ca.crt --cert "/var/evil/$1.crt" --key "/var/evil/$1.key" \
    "https://10.99.0.2:6443$2" "${@:3}"
}
send() { as "$1" "$2" -f -o /dev/null -X "$3" -H "Content-Type: application/$4" --data-binary @-; }
# joins NODE TYPE=ADDRESS... -- its credential, its Node, and what it writes into its status, all as a kubelet does
joins() {
  local n=$1; shift; mkdir -p "$E"
  openssl req -new -newkey rsa:2048 -nodes -keyout "$E/$n.key" -subj "/O=system:nodes/CN=system:node:$n" 2> /dev/null |
    openssl x509 -req -CA "$M$K/pki/ca.crt" -CAkey "$M$K/pki/ca.key" -set_serial "0x$(openssl rand -hex 7)" -days 30 \
      -extfile <(echo extendedKeyUsage=clientAuth) -out "$E/$n.crt" 2> /dev/null
  jq -n --arg n "$n" '{apiVersion: "v1", kind: "Node", metadata: {name: $n}}' | send "$n" /api/v1/nodes POST json
  claims "$n" "$@"
}
claims() { # claims NODE TYPE=ADDRESS...
  local n=$1; shift
  printf '%s\n' "$@" | jq -Rn '{status: {addresses: [inputs | split("=") | {type: .[0], address: .[1]}]}}' |
    send "$n" "/api/v1/nodes/$n/status" PATCH merge-patch+json
}
# csr NAME SANS SUBJECT USAGES OPENSSL-OPTIONS... -- a request as an object of the API
csr() {
  openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj "$3" -addext "subjectAltName=$2" "${@:5}" \
    2> /dev/null | base64 -w0 > "$M.csr"
  jq -n --arg n "$1" --arg u "$4" --rawfile r "$M.csr" '{apiVersion: "certificates.k8s.io/v1",
    kind: "CertificateSigningRequest", metadata: {name: $n}, spec: {signerName: "kubernetes.io/kubelet-serving",
    usages: ($u | split(",") + ["digital signature", "key encipherment"]), request: $r}}'
}
files() { # files NODE NAME SANS [SUBJECT] [USAGES] [OPENSSL-OPTIONS...]
  csr "$2" "$3" "${4:-/O=system:nodes/CN=system:node:$1}" "${5:-server auth}" "${@:6}" | send "$1" "$CSRS" POST json
}
# forges WHAT TYPE ADDRESS -- a node of that name claims it and asks for it
forges() {
  local kind=DNS; [[ $2 != *IP ]] || kind=IP
  joins "evil-$1" "Hostname=evil-$1" "$2=$3"; files "evil-$1" "evil-$1" "DNS:evil-$1,$kind:$3"
}
# odd WHAT SANS SUBJECT USAGES OPENSSL-OPTIONS... -- a node of that name asks for its own name, and something is wrong
odd() { joins "evil-$1" "Hostname=evil-$1"; files "evil-$1" "evil-$1" "${2:-DNS:evil-$1}" "${@:3}"; }
# floods NODE N SANS -- as many requests, by one connection
floods() {
  csr NAME "$3" "/O=system:nodes/CN=system:node:$1" "server auth" > "$M.flood"
  for i in $(seq "$2"); do sed "s/\"NAME\"/\"evil-flood-$i\"/" "$M.flood" > "$E/f-$i.json"; done
  for i in $(seq "$2"); do
    printf '%s\n' "url = https://10.99.0.2:6443$CSRS" "data-binary = @/var/evil/f-$i.json" \
      "cacert = $K/pki/ca.crt" "cert = /var/evil/$1.crt" "key = /var/evil/$1.key" \
      'header = "Content-Type: application/json"' 'output = /dev/null' silent show-error fail next
  done | sed '$d' > "$E/flood.curl"
  on curl -K /var/evil/flood.curl
}
# went KIND PATTERN -- names of the kubelets' requests that were Approved, Denied or, as Pending, neither
went() {
  on kubectl get csr -o json | jq -r --arg k "$1" --arg p "$2" '[.items[] | select(.metadata.name | test($p)) |
    select(.spec.signerName == "kubernetes.io/kubelet-serving") | select($k == ([.status.conditions[]?.type] |
    map(select(. == "Approved" or . == "Denied")) | .[0] // "Pending")) | .metadata.name] | sort | join(" ")'
}
counted() { on grep -q "^certwarden_approver_undecided $1$" /run/certwarden/metrics.prom; }
