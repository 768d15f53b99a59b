# shellcheck shell=bash
# lib.sh -- sourced by run, the set-up and every scenario. A scenario works on the node $CW_NODE, whose tree is $M.
T=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
V=${CERTWARDEN_VM:-/var/lib/certwarden-vm} N=${CW_NODE:-node}
M=$V/machines/$N
# what is tested: the package $CERTWARDEN_DEB; or the program $CERTWARDEN_BIN by itself; or the package of a build for
# this run
export CERTWARDEN_VM=$V
if [ "${CERTWARDEN_BIN:-}" ]; then export CERTWARDEN_DEB=${CERTWARDEN_DEB:-}
elif [ "${CERTWARDEN_DEB:-}" ]; then export CERTWARDEN_DEB CERTWARDEN_BIN=$V/given/certwarden
else
  export CERTWARDEN_DEB=$V/package/certwarden.deb CERTWARDEN_BIN=${CARGO_TARGET_DIR:-${T%/*}/target}/release/certwarden
fi
# scenario_name FILE -- long/92-fleet for a shell scenario; rollback for scenarios/test_rollback.py
scenario_name() {
  local n=$1; case $n in scenarios/*) n=${n##*/test_} n=${n%.py} n=${n//_/-};; esac; echo "$n"
}

saw() { echo "   · $*"; }    # a figure worth showing: run prints these lines when the scenario passed
fail() { echo "FAILED: $*"; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: got '$2', want '$3'"; }
match() { grep -qE -- "$3" <<< "$2" || fail "$1: '$2' does not match /$3/"; }

# poll SECONDS WHAT CMD... -- until CMD succeeds
poll() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@"; do [ $SECONDS -lt $end ] || fail "waited too long: $what"; sleep 0.3; done
}

# on CMD... -- inside the node
on() {
  nsenter -t "$(cat "$M.leader")" -a env -i HOME=/root LANG=C.UTF-8 KUBECONFIG=/etc/kubernetes/admin.conf \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
# put MODE FILE PATH-IN-NODE -- a new inode: never through a link to the golden tree
put() { install -D -m "$1" "$2" "$M$3"; }

new() { "$T/machine/clone" "$N"; }           # a node as after kubeadm init, not running
boot() {
  "$T/machine/start" "$N" || fail "no boot"
  poll 180 "node Ready after boot" ready; poll 60 "control plane healthy after boot" healthy
}
. "$T/api.sh"
