# shellcheck shell=bash
# cw.sh -- lib.sh and what scenarios say about certificates and certwarden
. "${BASH_SOURCE[0]%/*}/lib.sh"
K=/etc/kubernetes
CRTS=(pki/{apiserver,apiserver-etcd-client,apiserver-kubelet-client,front-proxy-client}.crt pki/etcd/{server,peer,healthcheck-client}.crt)
CONFS=(admin.conf controller-manager.conf scheduler.conf)

conf() { mkdir -p "$M/etc/certwarden/config.d"; cat > "$M/etc/certwarden/config.d/$1"; chmod 644 "$M/etc/certwarden/config.d/$1"; }
# quick -- shorter waits than the defaults, where the scenario is not about them: a kubelet that crashes does so within 12 s (RestartSec is 10 s)
quick() { conf 20-quick.toml <<< $'[verify]\nstability = "12s"\ntimeout = "60s"'; }
# cw ARGS... -- certwarden in the node: RC, OUT and ERR, all three shown in the log
cw() {
  echo "+ certwarden $*"; RC=0; on certwarden "$@" > "$M.out" 2> "$M.err" || RC=$?
  OUT=$(cat "$M.out") ERR=$(cat "$M.err"); echo "$OUT"; echo "$ERR"; echo "+ exit $RC"
}
say() { jq -r "$1" <<< "$OUT"; }              # from the JSON of the last cw

# cert FILE -- the leaf in it, PEM, from the node's tree; a kubeconfig's or a certificate file's
cert() { case $1 in *.conf) awk '$1 == "client-certificate-data:" {print $2}' "$M$K/$1" | base64 -d;; *) cat "$M$K/$1";; esac; }
serial() { cert "$1" | openssl x509 -noout -serial | norm; }
norm() { sed 's/^serial=//; s/^0[xX]//' | tr -d ':' | tr a-f A-F | sed 's/^0*//'; }
served() { on openssl s_client -connect "$1" < /dev/null 2>/dev/null | openssl x509 -noout -serial | norm; }
serves() { [ "$(served "$1")" = "$(serial "$2")" ]; }       # serves ADDRESS FILE
serials() { local f; for f in "${CRTS[@]}" "${CONFS[@]}"; do echo "$f $(serial "$f")"; done; }
identities() { local f; for f in "${CRTS[@]}" "${CONFS[@]}"; do echo "$f"; cert "$f" | openssl x509 -noout -subject -issuer -ext subjectAltName,keyUsage,extendedKeyUsage 2>/dev/null; done; }
# changed OLD -- how many of the ten differ from the list OLD
changed() { diff <(echo "$1") <(serials) | grep -c '^>' || true; }

live() { (cd "$M" && find etc/kubernetes var/lib/kubelet/pki -printf "$1"); }
names() { live '%p %y %m %u %g %l\n' | sort; }                  # nothing left over, modes and owners as they were
content() { (names; cd "$M" && find etc/kubernetes var/lib/kubelet/pki -type f -exec sha256sum {} +) | sort; }
picture() { (content; live '%p %i %n %s %T@ %C@\n') | sort; }   # not one byte or timestamp
# files OLD -- how many files differ from the list OLD of content
files() { comm -13 <(echo "$1") <(content) | grep '^[0-9a-f]\{64\} ' | grep -vc '/\.' || true; }
unchanged() { diff <(echo "$2") <("$1") || fail "live files changed (above)"; }

# pairs -- every key belongs to its certificate
pairs() {
  local f; for f in "${CRTS[@]}"; do cmp -s <(openssl x509 -noout -pubkey -in "$M$K/$f") <(openssl pkey -pubout -in "$M$K/${f%.crt}.key") || fail "$f and its key do not match"; done
  for f in "${CONFS[@]}"; do cmp -s <(cert "$f" | openssl x509 -noout -pubkey) <(awk '$1 == "client-key-data:" {print $2}' "$M$K/$f" | base64 -d | openssl pkey -pubout) || fail "$f: key does not match"; done
}
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
