# shellcheck shell=bash
# package.sh -- cw.sh and what scenarios say about packages and units
. "${BASH_SOURCE[0]%/*}/cw.sh"
export P=$V/package    # setup/package makes it
# shellcheck disable=SC2034
units=(certwarden.service certwarden-recover.service certwarden-check.timer certwarden-export.socket)
show() { on systemctl show -p "$1" --value "${2:-certwarden.service}"; }
is_state() { [ "$(show ActiveState "${2:-certwarden.service}")" = "$1" ]; }
enabled() { on systemctl is-enabled "$1" 2>/dev/null || true; }
dpkg_i() { cp "$(readlink -f "$1")" "$M/root/certwarden.deb"; on env DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /root/certwarden.deb; }
tree() { (cd "$M" && find etc/kubernetes var/lib/kubelet -type f -exec sha256sum {} + -o -printf '%p %y %m %l\n' | sort); }
left() { (cd "$M" && find etc usr var run root -xdev -iname "*certwarden*" -not -path "var/log/journal/*" -not -path "root/*" | sort); }
# anew PROPERTY OLD -- the daemon is another one, and active
anew() { [ "$(show "$1")" != "$2" ] && is_state active; }
looked() { on certwarden status -o json 2>/dev/null | jq -e '.last_check.certificates > 10' > "$M.null"; }
logged() { on journalctl -u certwarden --no-pager -o cat | grep -q "$1"; }
refused() { [ "$(show ActiveState) $(show ExecMainStatus)" = "failed 78" ]; }
waits() { on pgrep -fx 'sleep 100' > "$M.null"; }    # inside/kubeadm-that-waits

# a kubeadm that does not end, so that a transaction is open when the new version comes
upgrade_in_transaction() {
  local before id; before=$(tree) id=$(show InvocationID)
  put 755 "$T/inside/kubeadm-that-waits" /usr/bin/kubeadm
  conf 10-test.toml <<< $'[gates]\nclock-synchronised = "ignore"\n[renew]\nrenewer = "kubeadm"\nemergency-before = "4d"'
  on systemctl restart certwarden; id=$(show InvocationID)
  poll 60 "kubeadm at work" waits
  is "state" "$(state)" open
  dpkg_i "$P/next/certwarden.deb"
  anew InvocationID "$id" || fail "the daemon was not started anew"
  is "the first transaction" "$(jq -r 'select(.state) | .state' "$(txns | head -1)/ledger.jsonl" | tail -1)" discarded; unchanged tree "$before"
  saw "upgrade in an open transaction: $(states)"
  rm "$M/usr/bin/kubeadm"; conf 10-test.toml <<< $'mode = "observe"\n[gates]\nclock-synchronised = "ignore"'; on systemctl restart certwarden
}
