# shellcheck shell=bash
# ills.sh -- rows.sh and more ways to break a node, for 90-diagnose; what a way needs to wait for, it waits for
. "${BASH_SOURCE[0]%/*}/rows.sh"
Y=$M/var/lib/kubelet/config.yaml A=$M$K/manifests H=$M.well
SAVED=(etc/kubernetes var/lib/kubelet/pki var/lib/kubelet/config.yaml)

keep() { mkdir -p "$H"; tar -C "$M" --exclude=manifests -cpf "$H/files.tar" "${SAVED[@]}"; cp -a "$A" "$M/etc/cni/net.d" "$H/"; }
# files-well -- every file as it was; directories stay, which pods pin, and so do manifests that are well: a kubelet stops a pod whose manifest goes away
files-well() {
  local f; find "$P" -mindepth 1 -delete 2> /dev/null; rm -rf "$M/var/lib/certwarden/state.json"; tar -C "$M" --unlink-first -xpf "$H/files.tar" 2> /dev/null; cp -a "$H/net.d/." "$M/etc/cni/net.d/"
  for f in "$H"/manifests/*; do cmp -s "$f" "$A/${f##*/}" || { cp -a "$f" "$M/root/new" && mv "$M/root/new" "$A/${f##*/}"; }; done
}
# well WHAT SINCE -- the kubelet and the control plane, too
well() { files-well; restart; poll 120 "well again after $1" ready "$2"; poll 60 "healthy after $1" healthy; }
server() { sed -i "s|server: .*|server: $1|" "$C"; }
restart() { on systemctl restart kubelet; }
stopped() { on systemctl stop kubelet; }
crashes() { [ "$(on systemctl show -p SubState --value kubelet)" = auto-restart ]; }
crash() { restart; poll 30 "a crash" crashes; }
bad-config() { echo 'nonsense: [' >> "$Y"; crash; }
expired-client() { expired; crash; }
gone-client() { missing; crash; }
gone-config() { config-gone; crash; }
killed() { local c; for c; do on ctr -n k8s.io tasks kill -s KILL "$(container "$c" | head -n1)"; done; }
down() { [ "$(api /livez 2> /dev/null)" != ok ]; } # some say that they are ready without etcd
expired-apiserver() { "$T/inside/due" "$M" -1 pki/apiserver.crt; killed kube-apiserver; poll 60 "an expired leaf on 6443" serves 10.99.0.2:6443 pki/apiserver.crt; }
expired-etcd() { "$T/inside/due" "$M" -1 pki/etcd/{server,peer,healthcheck-client}.crt pki/apiserver-etcd-client.crt; killed etcd kube-apiserver; poll 180 "no API" down; }
gone() { ! on bash -c '</dev/tcp/10.99.0.2/6443' 2> /dev/null; } # while it shuts down it answers, with errors
no-apiserver() { mv "$A/kube-apiserver.yaml" "$M/root/"; poll 180 "no API" gone; }
bad-flag() { sed -i 's/- --secure-port=6443/- --secure-port=6443\n    - --nonsense=1/' "$A/kube-apiserver.yaml"; poll 180 "no API" down; }
bad-etcd() { sed -i 's/- --name=/- --nonsense=/' "$A/etcd.yaml"; poll 180 "no API" down; }
no-name() { server https://nowhere.invalid:6443; }
no-host() { server https://10.99.0.77:6443; }
no-port() { server https://10.99.0.2:6444; }
other-name() { server https://127.0.0.1:6443; }
other-trust() { sed -i "s|certificate-authority-data: .*|certificate-authority-data: $(base64 -w0 "$M$K/pki/etcd/ca.crt")|" "$C"; }
old-ca() { openssl x509 -in "$M$K/pki/ca.crt" -signkey "$M$K/pki/ca.key" -days -1 -out "$M.ca" 2> /dev/null; cat "$M.ca" > "$M$K/pki/ca.crt"; }
late() { "$T/inside/late" "$M" '-345 days' '20 days'; }
pends() { on kubectl get csr 2> /dev/null | grep -q Pending; }
asks() { late; restart; poll 60 "a request" pends; }
no-binding() { on kubectl delete clusterrolebinding kubeadm:node-autoapprove-certificate-rotation; asks; }
denied() { on kubectl certificate deny "$(on kubectl get csr -o json | jq -r '[.items[] | select(.status.conditions == null)][0].metadata.name')"; }
off() { sed -i 's/rotateCertificates: .*/rotateCertificates: false/' "$Y"; late; restart; }
ahead() { mkdir -p "$M/var/lib/certwarden"; echo '{"schema":"certwarden.state/v1","last_seen":"2040-01-01T00:00:00Z"}' > "$M/var/lib/certwarden/state.json"; }
deleted() { on kubectl delete node node; }
# registered SINCE -- static pods that are admitted before are refused, etcd among them now and then: then the next start brings them back
registered() { on journalctl -u kubelet --no-pager -q --since "@$1" --grep 'Successfully registered node' | grep -q .; }
register() { local t; t=$(date +%s); restart; poll 60 "a registration" registered "$t"; }
notready() { on kubectl get node node | grep -q NotReady; }
no-network() { rm "$M"/etc/cni/net.d/*; poll 90 "a node without network" notready; }
read-only() { on mount --bind /var/lib/kubelet/pki /var/lib/kubelet/pki; on mount -o remount,bind,ro /var/lib/kubelet/pki; }
writable() { on umount /var/lib/kubelet/pki; }
old-serving() { openssl x509 -in "$P/kubelet.crt" -signkey "$P/kubelet.key" -days -1 -out "$M.crt" 2> /dev/null; cat "$M.crt" > "$P/kubelet.crt"; }
old-manager() { "$T/inside/due" "$M" -1 controller-manager.conf; }
serving-asked() { sed -i '/serverTLSBootstrap/d' "$Y"; echo 'serverTLSBootstrap: true' >> "$Y"; restart; poll 60 "a request" pends; }
