# shellcheck shell=bash
# rows.sh -- cw.sh and the ways to break the kubelet's identity, each undone by `certwarden renew` alone: 73, 74 and 77
. "${BASH_SOURCE[0]%/*}/cw.sh"
P=$M/var/lib/kubelet/pki L=$P/kubelet-client-current.pem C=$M$K/kubelet.conf
quickest() { conf 20-quick.toml <<< $'[verify]\nstability = "4s"\ntimeout = "60s"'; }
file() { echo "$M$(readlink "$L")"; }

# row WHAT FOUND WAY (a pattern) -- breaks it by the function WHAT, restarts the kubelet, sees it found and repaired
row() {
  local t f
  find "$P" -name 'kubelet-client-2*.pem' ! -name "$(basename "$(readlink "$L")")" -delete; rm -rf "$M/var/lib/certwarden"
  "$1"; on systemctl restart kubelet
  cw check -o json; f=$(say '[.entries[] | select(.name | startswith("kubelet")).problems[].id] | join(" ")'); is "$1 is found" "$f" "$2"
  cw plan -o json; match "$1: the way" "$(say '[.source.ways[]?.by] | join(" ")')" "^($3)$"
  t=$(date +%s); cw renew -o json; is "$1: exit code" $RC 0; is "$1: outcome" "$(say .outcome)" verified
  poll 60 "Node Ready after $1" ready "$t"; saw "$1: $2; ${3:-references}; Ready by a heartbeat $(($(heartbeat) - t)) s after renew began"
  [ -L "$L" ] || fail "$1: no link"; is "$1: mode" "$(stat -c %a "$(file)")" 600
  cmp -s <(openssl x509 -noout -pubkey -in "$(file)") <(openssl pkey -pubout -in "$(file)") || fail "$1: the key does not match"
  is "$1: kubelet.conf names the link" "$(grep -c kubelet-client-current.pem "$C")" 2
}
leaf() { # leaf CN CA -- a certificate of that CA and its key
  openssl ecparam -name prime256v1 -genkey -noout -out "$M.key"; openssl req -new -key "$M.key" -subj "/O=system:nodes/CN=$1" -out "$M.csr"
  openssl x509 -req -in "$M.csr" -CA "$M$K/pki/$2.crt" -CAkey "$M$K/pki/$2.key" -set_serial "0x$(openssl rand -hex 7)" -days "${3:-100}" \
    -extfile <(echo $'keyUsage=digitalSignature\nextendedKeyUsage=clientAuth') 2> /dev/null; cat "$M.key"
}
hold() { "$@" > "$M.pem"; cat "$M.pem" > "$(file)"; }
dangling() { rm "$(file)"; }
missing() { rm "$(file)" "$L"; }
empty() { : > "$(file)"; }
cut-off() { truncate -s 400 "$(file)"; }
anothers() { hold leaf system:node:another ca; }
foreign() { hold leaf system:node:node etcd/ca; }
misfit() { openssl x509 -in "$(file)" > "$M.pem"; openssl ecparam -name prime256v1 -genkey -noout >> "$M.pem"; cat "$M.pem" > "$(file)"; }
unreadable() { ln -sfn /proc/1/mem "$L"; }      # not even root reads that
in-its-place() { rm "$(file)" "$L"; mkdir "$L"; touch "$L/in"; }
next-obstructed() { mkdir "$P/kubelet-client-updated.pem"; touch "$P/kubelet-client-updated.pem/in"; }
pipe() { local f; f=$(file); rm "$f"; mkfifo -m 600 "$f"; }
expired() { "$T/inside/late" "$M" '-365 days' '-1 day'; }
plain() { cat "$(file)" > "$M.pem"; rm "$(file)" "$L"; install -m 600 "$M.pem" "$L"; }
older() { cp -p "$(file)" "$P/kubelet-client-2020-01-01-00-00-00.pem"; empty; }
config-gone() { rm "$C"; }
config-rubbish() { echo '}{' > "$C"; }
points-nowhere() { sed -i 's/kubelet-client-current/nothing/' "$C"; }
embedded() {
  local c k; c=$(openssl x509 -in "$(file)" | base64 -w0) k=$(openssl pkey -in "$(file)" -traditional | base64 -w0)
  sed -i "s|client-certificate: .*|client-certificate-data: $c|; s|client-key: .*|client-key-data: $k|" "$C"
}
only-embedded() { embedded; missing; }
in-the-way() { echo x > "$P/kubelet-client-updated.pem"; }
