# shellcheck shell=sh
# For the scripts beside it, which source it with the machine's driver as $1: a stage, a copy of kedge in /root/kedge of the machine, and
# words for what is run and seen there.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
vm=${1:-${VM:-vm}}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

say() { printf '\n== %s\n' "$*"; }
faults=0
# shellcheck disable=SC2016 # the guest expands it
# guest: what stands on stdin runs there, each command shown. What changes from one run of this script to the next is masked.
guest() {
  { cat "$stage/lib.sh" - && printf '\nexit "$(wc -l </root/faults)"\n'; } >"$stage/script"
  status=0
  "$vm" ssh sh -s <"$stage/script" >"$stage/out" 2>&1 || status=$?
  sed -e 's/[0-9a-f]\{64\}/ID/g' -e 's/[0-9]\{8\}T[0-9]\{6\}Z-[0-9a-z]\{6\}/RUN/g' "$stage/out"
  faults=$((faults + status))
}

cat >"$stage/lib.sh" <<'LIB'
: >/root/faults
fault() { echo "NOT SEEN: $*" | tee -a /root/faults; }
run() { printf '# %s\n' "$*"; "$@" || { echo "-> $?"; fault "status 0 of $*"; }; }
fails() { printf '# %s\n' "$*"; if "$@"; then fault "a failure of $*"; else echo "-> $?"; fi; }
# shows PATTERN COMMAND: with a line of that kind
shows() { pattern=$1; shift; "$@" >/root/shown 2>&1; cat /root/shown; grep -Eq -e "$pattern" /root/shown || fault "'$pattern' of $*"; }
# wait_for SECONDS COMMAND: until it succeeds
wait_for() {
  end=$(($(date +%s) + $1)); shift
  until "$@" >/dev/null 2>&1; do [ "$(date +%s)" -lt "$end" ] || { fault "$*"; return 1; }; sleep 1; done
}
runs() { [ -f /var/lib/kedge/web1/runs.ndjson ] && grep -c "\"verb\":\"$1\",.*\"state\":\"$2\"" /var/lib/kedge/web1/runs.ndjson || :; }
at_least() { [ "$(runs "$2" "$3")" -ge "$1" ]; }
caught() { grep -q "$1" /srv/caught; }
at_rest() { wait_for 60 sh -c "! systemctl is-active kedge-backup@$1.service | grep -q activating"; }
LIB

"$vm" status | grep -q pid || "$vm" start >&2
mkdir "$stage/kedge"
while read -r name; do cp -R "$here/$name" "$stage/kedge"; done <"$here/install/contents"
"$vm" push "$stage/kedge" /root/kedge

