# shellcheck shell=bash
# leaves.sh -- sourced by cw.sh: the certificates, kubeconfigs and keys in the node's tree
CRTS=(pki/{apiserver,apiserver-etcd-client,apiserver-kubelet-client,front-proxy-client}.crt
  pki/etcd/{server,peer,healthcheck-client}.crt)
# confs -- the kubeconfigs that this node has beside the kubelet's: three, and super-admin.conf where kubeadm makes it
confs() { (cd "$M$K" && ls {admin,controller-manager,scheduler,super-admin}.conf 2> /dev/null); }
# leaves -- what `kubeadm certs renew all` renews here: of each the file below /etc/kubernetes
leaves() { printf '%s\n' "${CRTS[@]}"; confs; }

# cert FILE -- the leaf in it, PEM, from the node's tree; a kubeconfig's or a certificate file's
cert() {
  case $1 in
    *.conf) awk '$1 == "client-certificate-data:" {print $2}' "$M$K/$1" | base64 -d;;
    *) cat "$M$K/$1";;
  esac
}
key() {
  case $1 in
    *.conf) awk '$1 == "client-key-data:" {print $2}' "$M$K/$1" | base64 -d;;
    *) cat "$M$K/${1%.crt}.key";;
  esac
}
serial() { cert "$1" | openssl x509 -noout -serial | norm; }
norm() { sed 's/^serial=//; s/^0[xX]//' | tr -d ':' | tr a-f A-F | sed 's/^0*//'; }
served() { on openssl s_client -connect "$1" < /dev/null 2>/dev/null | openssl x509 -noout -serial | norm; }

live() { (cd "$M" && find etc/kubernetes var/lib/kubelet/pki -printf "$1"); }
names() { live '%p %y %m %u %g %l\n' | sort; }                  # nothing left over, modes and owners as they were
content() { (names; cd "$M" && find etc/kubernetes var/lib/kubelet/pki -type f -exec sha256sum {} +) | sort; }
unchanged() { diff <(echo "$2") <("$1") || fail "live files changed (above)"; }

# pairs -- every key belongs to its certificate
pairs() {
  local f; for f in $(leaves); do
    cmp -s <(cert "$f" | openssl x509 -noout -pubkey) <(key "$f" | openssl pkey -pubout) ||
      fail "$f and its key do not match"
  done
}
