# shellcheck shell=bash
# life.sh -- cw.sh and the life of the package on a machine without Kubernetes: life 12|13
. "${BASH_SOURCE[0]%/*}/cw.sh"
unset KUBECONFIG; P=$V/package
units=(certwarden.service certwarden-recover.service certwarden-check.timer)
show() { on systemctl show -p "$1" --value "${2:-certwarden.service}"; }
is_state() { [ "$(show ActiveState "${2:-certwarden.service}")" = "$1" ]; }
enabled() { on systemctl is-enabled "$1" 2>/dev/null || true; }
log() { on journalctl -u certwarden --no-pager -o cat; }
dpkg_i() { cp "$(readlink -f "$1")" "$M/root/certwarden.deb"; on env DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /root/certwarden.deb; }
tree() { (cd "$M" && find etc/kubernetes var/lib/kubelet -type f -exec sha256sum {} + -o -printf '%p %y %m %l\n' | sort); }
left() { (cd "$M" && find etc usr var run root -xdev -iname '*certwarden*' -not -path 'var/log/journal/*' -not -path 'root/certwarden.*' | sort); }

life() {
  local before pid id t
  "$T/machine/plain" "$N" "$1"; saw "$(on systemctl --version | head -1), $(on openssl version 2>/dev/null || echo 'no openssl program')"
  # a stranger's machine: the package comes before kubeadm
  t=$EPOCHREALTIME; dpkg_i "$P/certwarden.deb"; saw "installed in $(awk "BEGIN {printf \"%.1f\", $EPOCHREALTIME - $t}") s: .deb $(($(stat -Lc %s "$P/certwarden.deb") / 1024)) KiB, certwarden $(($(stat -c %s "$M/usr/bin/certwarden") / 1024)) KiB, certwarden-full $(($(stat -c %s "$M/usr/lib/certwarden/certwarden-full") / 1024)) KiB"
  [[ $CERTWARDEN_BIN == */debug/* ]] || for f in usr/bin/certwarden usr/lib/certwarden/certwarden-full; do [ "$(stat -c %s "$M/$f")" -lt 10485760 ] || fail "$f is over 10 MiB"; done
  for u in "${units[@]}"; do is "$u after the installation" "$(enabled "$u") $(show ActiveState "$u")" "disabled inactive"; done
  for u in certwarden:28 certwarden-recover:28 certwarden-check:16; do
    saw "$(on systemd-analyze security --threshold="${u#*:}" --no-pager "${u%:*}.service" | tail -1)"    # fails above
    on systemd-analyze verify --man=no "/usr/lib/systemd/system/${u%:*}.service" || fail "systemd-analyze verify ${u%:*}"
  done
  on systemctl preset-all 2>/dev/null; for u in "${units[@]}"; do is "$u after preset-all" "$(enabled "$u")" disabled; done
  [ ! -e "$M/var/lib/certwarden" ] || fail "the installation made state"

  on systemctl enable --now certwarden; is "enabled with it" "$(enabled certwarden-recover.service)" enabled
  conf 10-test.toml <<< $'mode = "observe"\n[gates]\nclock-synchronised = "ignore"\n[renew]\nrenew-before = "1d"\nemergency-before = "12h"'
  on systemctl reload certwarden; is "without a node" "$(show ActiveState)" active; saw "without a node: $(show StatusText)"
  pid=$(show MainPID)
  # now the node is made: the service sees it, gets a mount of it, looks
  cp -a "$P/tree/." "$M.tree"; mkdir -p "$M/var/lib/kubelet"; cp -a "$M.tree/var/lib/kubelet/." "$M/var/lib/kubelet/"; cp -a "$M.tree/etc/kubernetes" "$M/etc/"; rm -r "$M.tree"
  again() { [ "$(show MainPID)" != "$pid" ] && is_state active; }
  poll 100 "a start anew with the new directories" again; is "failures of the unit" "$(show Result)" success
  looked() { on certwarden status -o json | jq -e '.last_check.certificates > 10' > "$M.null"; }
  poll 30 "the first look" looked; saw "with a node: $(show StatusText)"
  on sh -c 'nsenter -t "$0" -m test -w /etc/kubernetes/pki' "$(show MainPID)" || fail "the service cannot write to /etc/kubernetes"
  before=$(tree)

  # the timer, for people without the daemon
  on systemctl enable --now certwarden-check.timer; on systemctl start certwarden-check || fail "a good node fails the check"
  conf 50-late.toml <<< $'[renew]\nrenew-before = "30d"\nemergency-before = "10d"'
  ! on systemctl start certwarden-check || fail "a critical node passes the check"; is "exit code of the check" "$(show ExecMainStatus certwarden-check.service)" 2
  rm "$M/etc/certwarden/config.d/50-late.toml"; on systemctl disable --now certwarden-check.timer

  conf 60-bad.toml <<< 'no-such-key = 1'; pid=$(show MainPID); on systemctl reload certwarden || true
  complained() { log | grep -q 60-bad.toml; }; poll 20 "a word about the bad file" complained; is "PID after a bad reload" "$(show MainPID)" "$pid"
  on systemctl restart certwarden || true; failed() { [ "$(show ActiveState) $(show ExecMainStatus)" = "failed 78" ]; }; poll 20 "a start with a bad file refused, once" failed
  rm "$M/etc/certwarden/config.d/60-bad.toml"; on systemctl restart certwarden; is "after the repair" "$(show ActiveState)" active
  echo '# edited' >> "$M/etc/certwarden/certwarden.toml"

  upgrade_in_transaction; before=$(tree)
  dpkg_i "$P/certwarden.deb"; is "after a downgrade" "$(show ActiveState) $(enabled certwarden.service)" "active enabled"
  grep -q '# edited' "$M/etc/certwarden/certwarden.toml" || fail "the edit of the settings is lost"

  t=$SECONDS; on dpkg -r certwarden; saw "removed in $((SECONDS - t)) s"; is "processes left" "$(on pgrep -c certwarden || true)" 0
  unchanged tree "$before"; [ -d "$M/var/lib/certwarden/transactions" ] && [ -e "$M/etc/certwarden/certwarden.toml" ] || fail "remove took state or settings away"
  dpkg_i "$P/certwarden.deb"; is "installed again: as it was" "$(enabled certwarden.service)" enabled; on dpkg -r certwarden
  on dpkg -P certwarden; is "left after purge" "$(left)" ""; unchanged tree "$before"
  is "failed units" "$(on systemctl list-units --failed --plain --no-legend | grep -c certwarden)" 0
}

# a kubeadm that does not end, so that a transaction is open when the new version comes
upgrade_in_transaction() {
  local before id; before=$(tree) id=$(show InvocationID)
  put 755 "$T/inside/kubeadm-that-waits" /usr/bin/kubeadm
  conf 10-test.toml <<< $'[gates]\nclock-synchronised = "ignore"\n[renew]\nrenewer = "kubeadm"\nemergency-before = "4d"'
  on systemctl restart certwarden; id=$(show InvocationID)
  waits() { on pgrep -fx 'sleep 100' > "$M.null"; }; poll 60 "kubeadm at work" waits
  is "state" "$(state)" open
  dpkg_i "$P/next/certwarden.deb"
  [ "$(show InvocationID)" != "$id" ] && is_state active || fail "the daemon was not started anew"
  is "the first transaction" "$(jq -r 'select(.state) | .state' "$(txns | head -1)/ledger.jsonl" | tail -1)" discarded; unchanged tree "$before"
  saw "upgrade in an open transaction: $(states)"
  rm "$M/usr/bin/kubeadm"; conf 10-test.toml <<< $'mode = "observe"\n[gates]\nclock-synchronised = "ignore"'; on systemctl restart certwarden
}
