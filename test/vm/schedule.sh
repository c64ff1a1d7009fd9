#!/bin/sh
# Shows on a real machine with systemd what the tests cannot: timers that fire, their runs in the ledger, the sandbox, the lock against
# sleep, failures that reach a mail server and a web hook, a reboot without a passphrase, a run that is made up for after a power-off.
#
#   node build.mjs && test/vm/schedule.sh [VM] >test/vm/transcripts/schedule.txt
#
# VM (or $VM, or `vm` in PATH) drives a disposable Debian machine that has node and restic, as root: VM start, stop, reboot;
# VM ssh COMMAND; VM push DIR DEST. VM_RTC=base=TIME sets its clock at a start. It takes about ten minutes under emulation.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
vm=${1:-${VM:-vm}}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

say() { printf '\n== %s\n' "$*"; }
# guest: what stands on stdin runs there, each command shown. What changes from one run of this script to the next is masked.
guest() {
  { cat "$stage/lib.sh" && cat; } >"$stage/script"
  "$vm" ssh sh -s <"$stage/script" 2>&1 | sed -e 's/[0-9a-f]\{64\}/ID/g' -e 's/[0-9]\{8\}T[0-9]\{6\}Z-[0-9a-z]\{6\}/RUN/g'
}

cat >"$stage/lib.sh" <<'LIB'
run() { printf '# %s\n' "$*"; "$@" || echo "-> $?"; }
# wait_for SECONDS COMMAND: until it succeeds
wait_for() {
  end=$(($(date +%s) + $1)); shift
  until "$@" >/dev/null 2>&1; do [ "$(date +%s)" -lt "$end" ] || { echo "NOT SEEN: $*"; return 1; }; sleep 1; done
}
runs() { [ -f /var/lib/kedge/web1/runs.ndjson ] && grep -c "\"verb\":\"$1\",.*\"state\":\"$2\"" /var/lib/kedge/web1/runs.ndjson || :; }
at_least() { [ "$(runs "$2" "$3")" -ge "$1" ]; }
caught() { grep -q "$1" /srv/caught; }
LIB

"$vm" status | grep -q pid || "$vm" start >&2
mkdir "$stage/kedge"
cp -R "$here/dist" "$here/systemd" "$here/docs" "$stage/kedge"
"$vm" push "$stage/kedge" /usr/local/lib/kedge

guest <<'GUEST'
# What an earlier call left.
systemctl stop catcher 'kedge-*' 2>/dev/null
[ ! -x /usr/local/bin/kedge ] || kedge schedule remove >/dev/null
rm -rf /etc/kedge /var/lib/kedge /var/cache/kedge /srv/* /etc/systemd/system/kedge-* /var/lib/systemd/timers/stamp-kedge-*
if id alice >/dev/null 2>&1; then loginctl disable-linger alice; systemctl stop user@"$(id -u alice)"; userdel -r alice 2>/dev/null; fi
ln -sf /usr/local/lib/kedge/dist/kedge.cjs /usr/local/bin/kedge
# A mail server that takes everything, and a web server: both write what they get to /srv/caught.
cat >/srv/catcher.mjs <<'JS'
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as listen } from 'node:net'
const keep = (line) => appendFileSync('/srv/caught', `${line}\n`)
listen((socket) => {
  let data = false
  let rest = ''
  socket.write('220 catcher\r\n')
  socket.on('error', () => {})
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\r\n')
    rest = lines.pop()
    for (const line of lines) {
      if (data) {
        if (/^(Subject|To|X-Kedge-Event):/.test(line)) keep(`mail ${line}`)
        if (line === '.') data = false
        if (line === '.') socket.write('250 kept\r\n')
      } else if (/^DATA/i.test(line)) {
        data = true
        socket.write('354 go on\r\n')
      } else socket.write(/^QUIT/i.test(line) ? '221 bye\r\n' : '250 ok\r\n')
    }
  })
}).listen(2525, '127.0.0.1')
createServer((request, response) => {
  let body = ''
  request.on('data', (chunk) => (body += chunk))
  request.on('end', () => {
    const { target, verb, state, message } = JSON.parse(body)
    keep(`hook ${request.headers['kedge-event']}: ${target} ${verb} ${state}: ${message ?? ''}`)
    response.end()
  })
}).listen(8080, '127.0.0.1')
JS
systemd-run --quiet --unit=catcher node /srv/catcher.mjs
useradd -m alice
# Files that only root's powers restore: another owner's closed folder, one that runs as its owner, one with a capability.
mkdir -p /srv/data/hers && echo hers >/srv/data/hers/file && chmod 600 /srv/data/hers/file && chmod 700 /srv/data/hers
chown -R alice /srv/data/hers
cp /bin/true /srv/data/setuid && chmod 4755 /srv/data/setuid
cp /bin/true /srv/data/capable && setcap cap_net_raw+ep /srv/data/capable
echo text >/srv/data/file
GUEST

say 'a target whose secrets systemd seals; timers every minute'
guest <<'GUEST'
run kedge new web1 --path /srv/data --repo /srv/repository --secret credential --schedule '* * * * *' \
  --set SCHEDULE_CHECK=@daily --set SCHEDULE_DRILL=@daily --set SCHEDULE_PRUNE=@weekly \
  --set 'NOTIFY=mail webhook' --set MAIL_TO=ops@example.org --set SMTP_URL=smtp://127.0.0.1:2525 \
  --set WEBHOOK_URL=http://127.0.0.1:8080/
run kedge init web1
run kedge schedule web1
# So that a minute is a minute.
mkdir -p /etc/systemd/system/kedge-backup@web1.timer.d
printf '[Timer]\nAccuracySec=100ms\n' >/etc/systemd/system/kedge-backup@web1.timer.d/accuracy.conf
# The hook runs in the sandbox too: what logind holds meanwhile.
mkdir -p /etc/kedge/targets/web1/hooks
printf '#!/bin/sh\nsystemd-inhibit --list --no-pager --no-legend >/tmp/inhibited\n' >/etc/kedge/targets/web1/hooks/before-backup
chmod 755 /etc/kedge/targets/web1/hooks/before-backup
run kedge schedule install
run kedge schedule install -q >/dev/null
run systemd-analyze verify --man=no kedge-backup@web1.service kedge-check@web1.service kedge-drill@web1.service kedge-prune@web1.service \
  kedge-copy@web1.service kedge-notify@web1.service kedge-backup@web1.timer
for verb in backup copy prune check drill; do
  systemd-analyze security --no-pager kedge-$verb@web1.service | sed -n '$s/ [^ ]*$//p'
done
systemd-analyze security --no-pager kedge-notify@backup:web1.service | sed -n '$s/ [^ ]*$//p'
GUEST

say 'the timer fires, and the run is in the ledger; nobody may put the machine to sleep meanwhile'
guest <<'GUEST'
wait_for 180 at_least 1 backup success && echo "a backup is in the ledger, state success"
grep -o 'kedge .*' /tmp/inhibited | tr -s ' '
sleep 2
run journalctl -u kedge-backup@web1 --no-pager -o cat --grep 'web1|Killing' -n 4
run systemctl stop kedge-backup@web1.timer
wait_for 60 sh -c '! systemctl is-active kedge-backup@web1.service | grep -q activating'
echo "left in the list of locks: $(systemd-inhibit --list --no-pager --no-legend | grep -c kedge)"
GUEST

say 'drill, check and prune in their sandboxes: owners, modes, capabilities'
guest <<'GUEST'
for verb in drill check prune; do run systemctl start kedge-$verb@web1.service; done
kedge history web1 | head -n 3 | cut -f 2-4
kedge history web1 --json | grep -o '"kind":"drilled".*"source":[0-9]*' | sed 's/"snapshot":"[^"]*",//'
GUEST

say 'a failure reaches the mail server and the web hook; the notify unit has nothing to add'
guest <<'GUEST'
printf 'CANARY=/srv/data/.mounted\n' >>/etc/kedge/targets/web1/target.env
run systemctl start kedge-backup@web1.service
wait_for 60 caught '^hook'
wait_for 60 caught '^mail Subject'
cat /srv/caught; rm /srv/caught
wait_for 60 sh -c 'journalctl -u kedge-notify@backup:web1 | grep -q nothing'
journalctl -u kedge-notify@backup:web1 --no-pager -o cat --grep 'nothing' | tail -n 1
sed -i /CANARY/d /etc/kedge/targets/web1/target.env
GUEST

say 'a run that is killed tells nothing itself: the notify unit does'
guest <<'GUEST'
printf '#!/bin/sh\nsleep 600\n' >/etc/kedge/targets/web1/hooks/before-backup
systemctl start --no-block kedge-backup@web1.service
wait_for 60 pgrep -f 'sleep 600'
run systemctl kill --kill-whom=all --signal=KILL kedge-backup@web1.service
wait_for 90 caught '^hook'
wait_for 60 caught '^mail Subject'
sed 's/process [0-9]*/process N/' /srv/caught; rm /srv/caught
rm /etc/kedge/targets/web1/hooks/before-backup
GUEST

say 'a skip is recorded, and no failure'
guest <<'GUEST'
printf '#!/bin/sh\nexit 77\n' >/etc/kedge/targets/web1/hooks/before-backup; chmod 755 /etc/kedge/targets/web1/hooks/before-backup
run systemctl start kedge-backup@web1.service
kedge history web1 --json | grep -m 1 -o '"state":"[a-z]*","status":[0-9]*'
rm /etc/kedge/targets/web1/hooks/before-backup
GUEST

say 'a reboot needs no passphrase'
guest <<'GUEST'
runs backup success >/srv/before
sync
GUEST
"$vm" reboot >&2
guest <<'GUEST'
wait_for 180 at_least $(($(cat /srv/before) + 1)) backup success && echo "the timer has saved web1 since the boot"
journalctl -b -u kedge-backup@web1 --no-pager -o cat --grep 'passphrase|credential' | head -n 3
GUEST

say 'a run that was missed while the power was off is made up for'
guest <<'GUEST'
sed -i "s/^SCHEDULE_BACKUP=.*/SCHEDULE_BACKUP='0 3 * * *'/; /^SCHEDULE_CHECK/d; /^SCHEDULE_DRILL/d; /^SCHEDULE_PRUNE/d" \
  /etc/kedge/targets/web1/target.env
wait_for 60 sh -c '! systemctl is-active kedge-backup@web1.service | grep -q activating'
run kedge schedule install | grep -v unchanged
runs backup success >/srv/before
date -u -d 'tomorrow 05:00' +%Y-%m-%dT%H:%M:%S >/srv/tomorrow
sync
GUEST
tomorrow=$("$vm" ssh cat /srv/tomorrow)
"$vm" stop >&2
VM_RTC=base=$tomorrow "$vm" start >&2
guest <<'GUEST'
wait_for 180 at_least $(($(cat /srv/before) + 1)) backup success && echo "at 05:00 the run of 03:00 is in the ledger"
run kedge schedule web1 | cut -f 1-3,5,6
GUEST

say "a user's own timers"
guest <<'GUEST'
loginctl enable-linger alice
wait_for 30 test -S /run/user/"$(id -u alice)"/bus
as_alice() { setpriv --reuid alice --regid alice --init-groups env -i HOME=/home/alice USER=alice PATH=/usr/local/bin:/usr/bin:/bin \
  XDG_RUNTIME_DIR=/run/user/"$(id -u alice)" "$@"; }
cd /home/alice
mkdir -p docs && echo mine >docs/file && chown -R alice docs
as_alice kedge new home1 --path /home/alice/docs --repo /home/alice/repository --secret file --schedule '* * * * *' >/dev/null 2>&1
as_alice kedge init home1 >/dev/null
as_alice kedge schedule install | sed 's,.*/,,'
wait_for 180 grep -q '"verb":"backup".*"state":"success"' .local/state/kedge/home1/runs.ndjson && echo "alice's timer has saved home1"
as_alice kedge schedule | cut -f 1-3,5,6
as_alice kedge schedule remove | grep -c removed
GUEST

say 'remove takes all of it away'
guest <<'GUEST'
kedge schedule remove | grep -c removed
find /etc/systemd/system -name 'kedge-*'
find /etc/systemd/system/kedge-backup@web1.timer.d -type f
GUEST
