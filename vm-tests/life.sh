# shellcheck shell=bash
# life.sh -- the life of the package on a machine without Kubernetes: life 12|13
. "${BASH_SOURCE[0]%/*}/package.sh"

life() {
  local before pid t
  "$T/machine/plain" "$N" "$1"; saw "$(on systemctl --version | head -1), $(on openssl version 2>/dev/null || echo 'no openssl program')"
  # a stranger's machine: the package comes before kubeadm
  t=$EPOCHREALTIME; dpkg_i "$P/certwarden.deb"; t=$(awk "BEGIN {printf \"%.1f\", $EPOCHREALTIME - $t}")
  kib() { echo $(($(stat -Lc %s "$1") / 1024)); }
  saw "installed in $t s: .deb $(kib "$P/certwarden.deb") KiB, certwarden $(kib "$M/usr/bin/certwarden") KiB"
  [[ $CERTWARDEN_BIN == */debug/* ]] || [ "$(kib "$M/usr/bin/certwarden")" -lt 10240 ] || fail "certwarden is over 10 MiB"
  is "programs in /usr/lib/certwarden" "$(find "$M/usr/lib/certwarden" -type f -perm /111)" ""
  for u in "${units[@]}"; do is "$u after the installation" "$(enabled "$u") $(show ActiveState "$u")" "disabled inactive"; done
  for u in certwarden:28 certwarden-recover:28 certwarden-check:16 certwarden-export:4; do
    saw "$(on systemd-analyze security --threshold="${u#*:}" --no-pager "${u%:*}.service" | tail -1)"    # fails above
    on systemd-analyze verify --man=no "/usr/lib/systemd/system/${u%:*}.service" || fail "systemd-analyze verify ${u%:*}"
  done
  on systemctl preset-all 2>/dev/null; for u in "${units[@]}"; do is "$u after preset-all" "$(enabled "$u")" disabled; done
  [ ! -e "$M/var/lib/certwarden" ] || fail "the installation made state"

  # on 13 the directory is there and is replaced later, on 12 it is made later
  [ "$1" = 12 ] || mkdir "$M/etc/kubernetes"
  on systemctl enable --now certwarden; is "enabled with it" "$(enabled certwarden-recover.service)" enabled
  conf 10-test.toml <<< $'mode = "observe"\n[gates]\nclock-synchronised = "ignore"\n[renew]\nrenew-before = "1d"\nemergency-before = "12h"'
  on systemctl reload certwarden; is "without a node" "$(show ActiveState)" active; saw "without a node: $(show StatusText)"
  pid=$(show MainPID)
  # now the node is made: the service sees it, gets a mount of it, looks
  [ "$1" = 12 ] || mv "$M/etc/kubernetes" "$M/etc/kubernetes.old"
  cp -a "$P/tree/." "$M.tree"; mkdir -p "$M/var/lib/kubelet"; cp -a "$M.tree/var/lib/kubelet/." "$M/var/lib/kubelet/"; cp -a "$M.tree/etc/kubernetes" "$M/etc/"; rm -r "$M.tree"
  poll 100 "a start anew with the new directories" anew MainPID "$pid"; is "failures of the unit" "$(show Result)" success
  poll 30 "the first look" looked; saw "with a node: $(show StatusText)"
  on nsenter -t "$(show MainPID)" -m test -w /etc/kubernetes/pki || fail "the service cannot write to /etc/kubernetes"
  rm -rf "$M/etc/kubernetes.old"; before=$(tree)

  # the timer, for people without the daemon
  on systemctl enable --now certwarden-check.timer; on systemctl start certwarden-check || fail "a good node fails the check"
  conf 50-late.toml <<< $'[renew]\nrenew-before = "30d"\nemergency-before = "10d"'
  ! on systemctl start certwarden-check || fail "a critical node passes the check"; is "exit code of the check" "$(show ExecMainStatus certwarden-check.service)" 2
  rm "$M/etc/certwarden/config.d/50-late.toml"; on systemctl disable --now certwarden-check.timer

  conf 60-bad.toml <<< 'no-such-key = 1'; pid=$(show MainPID); on systemctl reload certwarden || true
  poll 20 "a word about the bad file" logged 60-bad.toml; is "PID after a bad reload" "$(show MainPID)" "$pid"
  on systemctl restart certwarden || true; poll 20 "a start with a bad file refused, once" refused
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
