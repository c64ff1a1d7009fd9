#!/bin/sh
# Shows on a real machine with systemd what the tests cannot: timers that fire, their runs in the ledger, the sandbox, the lock against
# sleep, failures that reach a mail server, a web hook and sendmail's queue, credentials that do not open, a reboot without a passphrase,
# a run that is made up for after a power-off. Status 1 where something was not seen, or a command ended otherwise than it should.
#
#   node build.mjs && test/vm/schedule.sh [VM] >test/vm/transcripts/schedule.txt
#
# VM (or $VM, or `vm` in PATH) drives a disposable Debian machine that has node and restic, as root: VM start, stop, reboot;
# VM ssh COMMAND; VM push DIR DEST. VM_RTC=base=TIME sets its clock at a start. It takes about ten minutes under emulation.
set -eu
# shellcheck source=test/vm/guest.sh
. "$(dirname "$0")/guest.sh"

guest <<'GUEST'
# What an earlier call left.
systemctl stop catcher 'kedge-*' 2>/dev/null
[ ! -x /usr/local/bin/kedge ] || kedge schedule remove >/dev/null
rm -rf /usr/local/lib/kedge /usr/local/lib/systemd /usr/local/bin/kedge* /usr/sbin/sendmail /var/spool/q
rm -rf /etc/kedge /var/lib/kedge /var/cache/kedge /srv/* /etc/systemd/system/kedge-* /var/lib/systemd/timers/stamp-kedge-*
if id alice >/dev/null 2>&1; then loginctl disable-linger alice; systemctl stop user@"$(id -u alice)"; userdel -r alice 2>/dev/null; fi
systemctl daemon-reload
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

say 'setup puts the units where systemd looks for them'
guest <<'GUEST'
# This machine has no fuse and no network to get it from; nothing is mounted here.
mkdir -p /root/bin && ln -sf /bin/true /root/bin/fusermount3
PATH=/root/bin:$PATH
run sh /root/kedge/setup --system
shows ^/usr/local/lib/systemd/system/kedge-backup@.service systemctl show -P FragmentPath kedge-backup@web1.service
shows '^/usr/local/lib/systemd/system/kedge-notify@.service.d/30-system.conf' \
  sh -c 'systemctl show -P DropInPaths kedge-notify@backup:web1.service | tr " " "\n" | sort'
shows 'ExecStart=/usr/local/bin/kedge backup' systemctl cat kedge-backup@web1.service
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
# What setup put there as well is masked, and counts once.
run sh -c '! systemctl show -P FragmentPath -P DropInPaths kedge-notify@backup:web1.service kedge-backup@web1.service | grep /usr/local'
for verb in backup copy prune check drill; do
  systemd-analyze security --no-pager kedge-$verb@web1.service | sed -n '$s/ [^ ]*$//p'
done
systemd-analyze security --no-pager kedge-notify@backup:web1.service | sed -n '$s/ [^ ]*$//p'
GUEST

say 'the timer fires, and the run is in the ledger; nobody may put the machine to sleep meanwhile'
guest <<'GUEST'
wait_for 180 at_least 1 backup success && echo "a backup is in the ledger, state success"
shows '^kedge .* sleep .* block$' sh -c "grep -o 'kedge .*' /tmp/inhibited | tr -s ' '"
sleep 2
run journalctl -u kedge-backup@web1 --no-pager -o cat --grep 'web1|Killing' -n 4
run systemctl stop kedge-backup@web1.timer
at_rest web1
shows '^left in the list of locks: 0$' echo "left in the list of locks: $(systemd-inhibit --list --no-pager --no-legend | grep -c kedge)"
GUEST

say 'drill, check and prune in their sandboxes: owners, modes, capabilities'
guest <<'GUEST'
for verb in drill check prune; do run systemctl start kedge-$verb@web1.service; done
kedge history web1 | head -n 3 | cut -f 2-4
shows '"source":4' \
  sh -c 'kedge history web1 --json | grep -o "\"kind\":\"drilled\".*\"source\":[0-9]*" | sed "s/\"snapshot\":\"[^\"]*\",//"'
GUEST

say 'a failure reaches the mail server and the web hook; the notify unit has nothing to add'
guest <<'GUEST'
printf 'CANARY=/srv/data/.mounted\n' >>/etc/kedge/targets/web1/target.env
fails systemctl start kedge-backup@web1.service
wait_for 60 caught '^hook'
wait_for 60 caught '^mail Subject'
cat /srv/caught; rm /srv/caught
wait_for 60 sh -c 'journalctl -u kedge-notify@backup:web1 | grep -q nothing'
shows 'told of itself' sh -c 'journalctl -u kedge-notify@backup:web1 --no-pager -o cat --grep nothing | tail -n 1'
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
shows 'backup crashed: its process' sed 's/process [0-9]*/process N/' /srv/caught; rm /srv/caught
rm /etc/kedge/targets/web1/hooks/before-backup
GUEST

say 'a skip is recorded, and no failure'
guest <<'GUEST'
printf '#!/bin/sh\nexit 77\n' >/etc/kedge/targets/web1/hooks/before-backup; chmod 755 /etc/kedge/targets/web1/hooks/before-backup
run systemctl start kedge-backup@web1.service
shows '"skipped","status":75' sh -c 'kedge history web1 --json | grep -m 1 -o "\"state\":\"[a-z]*\",\"status\":[0-9]*"'
rm /etc/kedge/targets/web1/hooks/before-backup
GUEST

say 'the credential of a second store is opened in the sandbox; one that does not open costs its copy, and not the backup'
guest <<'GUEST'
run kedge new off1 --copy-of web1 --repo /srv/second --secret credential -q >/dev/null
run kedge init off1
printf 'COPY_AFTER_BACKUP=yes\n' >>/etc/kedge/targets/web1/target.env
run kedge schedule install web1 | grep -v unchanged
systemctl stop kedge-backup@web1.timer; at_rest web1
rm -f /srv/caught
run sed 1d /etc/systemd/system/kedge-backup@web1.service.d/50-target.conf
run systemctl start kedge-backup@web1.service
wait_for 5 at_least 1 copy success && echo "the copy is in the ledger"
runs backup success >/srv/before
cp /etc/kedge/targets/off1/secret.cred /srv/off1.cred && echo garbage >/etc/kedge/targets/off1/secret.cred
fails systemctl start kedge-backup@web1.service
wait_for 5 at_least $(($(cat /srv/before) + 1)) backup success && echo "the backup has succeeded"
wait_for 60 caught '^hook'
shows 'off1' cat /srv/caught; rm -f /srv/caught
sed -i /^COPY_/d /etc/kedge/targets/web1/target.env
rm -r /etc/kedge/targets/off1
GUEST

say 'a credential of its own that does not open keeps systemd from starting the backup: the notify unit tells why'
guest <<'GUEST'
kedge new web2 --path /srv/data --repo /srv/repository2 --secret credential --schedule @daily --set 'NOTIFY=mail webhook' \
  --set MAIL_TO=ops@example.org --set SMTP_URL=smtp://127.0.0.1:2525 --set WEBHOOK_URL=http://127.0.0.1:8080/ -q >/dev/null 2>&1
run kedge schedule install web2 | grep -v unchanged
echo garbage >/etc/kedge/targets/web2/secret.cred
fails systemctl start kedge-backup@web2.service
shows '^243$' systemctl show -P ExecMainStatus kedge-backup@web2.service
wait_for 90 caught '^hook'
wait_for 60 caught '^mail Subject'
shows 'web2 backup crashed: .*secret.cred' cat /srv/caught; rm -f /srv/caught
GUEST

say "sendmail writes to its queue in the notify unit, which the backup's sandbox keeps it from"
guest <<'GUEST'
mkdir -p /var/spool/q && chown alice /var/spool/q && chmod 700 /var/spool/q
printf '#!/bin/sh\ncat >>/var/spool/q/mail\n' >/usr/sbin/sendmail && chmod 755 /usr/sbin/sendmail
kedge new web3 --path /srv/data --repo /srv/repository3 --secret credential --schedule @daily --set NOTIFY=mail \
  --set MAIL_TO=ops@example.org -q >/dev/null 2>&1
run kedge init web3
printf 'CANARY=/srv/data/.mounted\n' >>/etc/kedge/targets/web3/target.env
run kedge schedule install web3 | grep -v unchanged
fails systemctl start kedge-backup@web3.service
shows sendmail sh -c 'journalctl -u kedge-backup@web3 --no-pager -o cat --grep sendmail | tail -n 1'
wait_for 90 test -s /var/spool/q/mail
shows '^Subject: kedge: backup of web3 failed' grep -E '^(Subject|To|X-Kedge-Event):' /var/spool/q/mail
run kedge schedule remove web2 web3 | wc -l
rm -r /etc/kedge/targets/web[23] /usr/sbin/sendmail
GUEST

say 'a reboot needs no passphrase'
guest <<'GUEST'
runs backup success >/srv/before
sync
GUEST
"$vm" reboot >&2
guest <<'GUEST'
wait_for 180 at_least $(($(cat /srv/before) + 1)) backup success && echo "the timer has saved web1 since the boot"
GUEST

say 'a run that was missed while the power was off is made up for'
guest <<'GUEST'
sed -i "s/^SCHEDULE_BACKUP=.*/SCHEDULE_BACKUP='0 3 * * *'/; /^SCHEDULE_CHECK/d; /^SCHEDULE_DRILL/d; /^SCHEDULE_PRUNE/d" \
  /etc/kedge/targets/web1/target.env
at_rest web1
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
run sh /usr/local/lib/kedge/current/setup --uninstall | sed '/^What stays/,$d'
run sh -c '! ls /usr/local/lib/kedge /usr/local/lib/systemd 2>/dev/null'
fails systemctl cat kedge-backup@web1.service
GUEST

[ "$faults" = 0 ] || echo "FAULTS: $faults"
[ "$faults" = 0 ]
