#!/bin/bash
# Writes kubectl's verdict on each kubeconfig of kubeconfigs.txt into the line above it: taken or refused.
# Run by hand where kubectl is (1.32 last): tests/judge/kubeconfigs.sh
set -euo pipefail
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
awk -v dir="$dir" '
  /^=== /{n++; title=$0; sub(/^=== [a-z]+ /,"",title); print title > (dir "/" n ".title"); next}
  {print > (dir "/" n ".conf")}' kubeconfigs.txt
count=$(grep -c '^=== ' kubeconfigs.txt)
for n in $(seq "$count"); do
  verdict=refused
  if kubectl --kubeconfig "$dir/$n.conf" config view --raw >"$dir/out" 2>&1 && grep -q current-context "$dir/out"; then
    verdict=taken
  fi
  echo "=== $verdict $(cat "$dir/$n.title")"
  cat "$dir/$n.conf"
done >"$dir/all"
cat "$dir/all" >kubeconfigs.txt
