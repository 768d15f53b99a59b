# shellcheck shell=bash
# signer.sh -- cw.sh, a node that looks like a worker to certwarden and has a real API server, and the hand of whoever approves and signs: 71 and 72
. "${BASH_SOURCE[0]%/*}/cw.sh"
P=$M/var/lib/kubelet/pki L=$P/kubelet-client-current.pem
late() { "$T/inside/late" "$M" '-345 days' '20 days'; }
rotate() { sed -i "s/rotateCertificates: .*/rotateCertificates: $1/" "$M/var/lib/kubelet/config.yaml"; }
# what a worker has of /etc/kubernetes
workers() { mkdir -p "$M/var/worker/pki"; cp -a "$M$K/kubelet.conf" "$M/var/worker/"; cp -a "$M$K/pki/ca.crt" "$M/var/worker/pki/"; }
worker() { # as cw, and /etc/kubernetes is a worker's
  echo "+ on the worker: certwarden $*"; RC=0; on unshare -m sh -c 'mount --bind /var/worker /etc/kubernetes; exec certwarden "$@"' sh "$@" > "$M.out" 2> "$M.err" || RC=$?
  OUT=$(cat "$M.out") ERR=$(cat "$M.err"); echo "$OUT"; echo "$ERR"; echo "+ exit $RC"
}
all() { content; (cd "$M" && find var/worker -type f -exec sha256sum {} +); }    # and what certwarden could have changed there
link() { readlink "$L"; }
csrs() { on kubectl get csr -o name | grep -c "$1" || true; }
newest() { on kubectl get csr --sort-by=.metadata.creationTimestamp -o name | sed -n 's|.*/\(certwarden-.*\)|\1|p' | tail -n1; }

approved() { on kubectl certificate approve "$1"; }
denied() { on kubectl certificate deny "$1"; }
# issue NAME CN DAYS [KEY] -- signed with the CA's key as the controller manager signs, whatever was asked for; for the key in that file instead of its own
issue() {
  approved "$1"; on kubectl get csr "$1" -o jsonpath='{.spec.request}' | base64 -d > "$M.csr"
  if [ "${4:-}" ]; then openssl pkey -in "$4" -pubout -out "$M.pub"; else openssl req -in "$M.csr" -noout -pubkey -out "$M.pub"; fi
  openssl x509 -new -force_pubkey "$M.pub" -subj "/O=system:nodes/CN=$2" -CA "$M$K/pki/ca.crt" -CAkey "$M$K/pki/ca.key" -set_serial "0x$(openssl rand -hex 7)" -days "$3" \
    -extfile <(echo $'keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE') -out "$M.crt" 2> /dev/null
  on kubectl get csr "$1" -o json | jq --arg c "$(base64 -w0 "$M.crt")" '.status.certificate = $c' | api "/apis/certificates.k8s.io/v1/certificatesigningrequests/$1/status" \
    -f -o /dev/null -X PUT -H 'Content-Type: application/json' --data-binary @-
}
well() { issue "$1" system:node:node 365; }
brief() { issue "$1" system:node:node 30; }
anothers-name() { issue "$1" system:node:another 365; }
anothers-key() { openssl ecparam -name prime256v1 -genkey -noout -out "$M.key"; issue "$1" system:node:node 365 "$M.key"; }
