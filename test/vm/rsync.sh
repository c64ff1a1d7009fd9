#!/bin/sh
# Shows on a real machine with systemd what the tests cannot: services of targets of the rsync engine in their sandbox, which may give files
# to their owners and make devices, and reach another host. Status 1 where something was not seen, or a command ended otherwise than it should.
#
#   node build.mjs && test/vm/rsync.sh [VM] >test/vm/transcripts/rsync.txt
#
# VM as for schedule.sh. It takes some minutes under emulation.
set -eu
# shellcheck source=test/vm/guest.sh
. "$(dirname "$0")/guest.sh"

guest <<'GUEST'
# What an earlier call left.
systemctl stop 'kedge-*' 2>/dev/null
[ ! -x /usr/local/bin/kedge ] || kedge schedule remove >/dev/null
rm -rf /usr/local/lib/kedge /usr/local/lib/systemd /usr/local/bin/kedge* /etc/kedge /var/lib/kedge /var/cache/kedge /srv/*
rm -rf /etc/systemd/system/kedge-* /var/lib/systemd/timers/stamp-kedge-* /etc/sudoers.d/kedge
if id puller >/dev/null 2>&1; then userdel -r puller 2>/dev/null; fi
id alice >/dev/null 2>&1 || useradd -m alice
systemctl daemon-reload
# What needs root's powers: another owner's closed folder, set-id bits, capabilities, devices.
mkdir -p /srv/data/hers && echo hers >/srv/data/hers/file && chmod 600 /srv/data/hers/file && chmod 700 /srv/data/hers
chown -R alice /srv/data/hers
cp /bin/true /srv/data/setuid && chmod 4755 /srv/data/setuid
mkdir /srv/data/setgid && chgrp alice /srv/data/setgid && chmod 2775 /srv/data/setgid
cp /bin/true /srv/data/capable && setcap cap_net_raw+ep /srv/data/capable
mknod /srv/data/null c 1 3 && mknod /srv/data/disk b 7 200 && mkfifo /srv/data/fifo
echo text >/srv/data/file && ln /srv/data/file /srv/data/other-name && ln -s file /srv/data/link
PATH=/root/bin:$PATH
mkdir -p /root/bin && ln -sf /bin/true /root/bin/fusermount3
run sh /root/kedge/setup --system
GUEST

say 'services of a target on this machine: backup, check, drill and prune as root in a sandbox'
guest <<'GUEST'
run kedge new web1 --engine rsync --store /srv/store --path /srv/data --schedule @daily --set SCHEDULE_CHECK=@daily \
  --set SCHEDULE_DRILL=@daily --set SCHEDULE_PRUNE=@daily --set KEEP_LAST=1 2>&1 | tail -1
run kedge init web1
run kedge schedule install -q >/dev/null
run systemctl start kedge-backup@web1.service
run systemctl start kedge-backup@web1.service
for verb in check drill prune; do run systemctl start kedge-$verb@web1.service; done
kedge history web1 --json | grep -Eo '"verb":"[a-z]*"|"status":[0-9]+' | paste - - | sort | uniq -c
rsync -aHAXS --numeric-ids --checksum --delete --itemize-changes --dry-run /srv/data/ /srv/store/web1/latest/tree/srv/data/ >/srv/differences
[ ! -s /srv/differences ] && echo "the snapshot is the same as its source, to the last attribute"
ls /srv/store/web1/snapshots | wc -l
ls -ld /srv/store/web1/latest/tree/srv/data/setuid /srv/store/web1/latest/tree/srv/data/null | cut -c 1-10
getcap /srv/store/web1/latest/tree/srv/data/capable | sed 's,.*/,,'
systemd-analyze security --no-pager kedge-backup@web1.service | sed -n '$s/ [^ ]*$//p'
GUEST

say 'a service that pulls from another host, by sudo and the forced command'
guest <<'GUEST'
useradd --system --create-home --shell /bin/sh puller
ssh-keygen -q -A && systemctl start ssh
run kedge new web2 --engine rsync --store /srv/store2 --source-host puller@127.0.0.1 --path /srv/data --schedule @daily 2>&1 | tail -1
kedge key web2 --as sudo --fingerprint "$(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2)" >/srv/key 2>&1
install -d -o puller -g puller -m 700 ~puller/.ssh
grep -o 'restrict,.*' /srv/key >~puller/.ssh/authorized_keys
kedge key web2 --script >/usr/local/bin/kedge-rsync-only && chmod 755 /usr/local/bin/kedge-rsync-only
if command -v sudo >/dev/null; then
  printf '%s\n' 'Defaults!/usr/local/bin/kedge-rsync-only env_keep += "SSH_ORIGINAL_COMMAND"' \
    'puller ALL=(root) NOPASSWD: /usr/local/bin/kedge-rsync-only ""' >/etc/sudoers.d/kedge
else
  # A machine without sudo: root's own account, and its own forced command.
  mkdir -p ~root/.ssh && sed 's/"sudo -n /"/' ~puller/.ssh/authorized_keys >>~root/.ssh/authorized_keys
  sed -i 's/puller@/root@/' /etc/kedge/targets/web2/target.env
fi
run kedge init web2
run kedge schedule install -q >/dev/null
run systemctl start kedge-backup@web2.service
rsync -aHAXS --numeric-ids --checksum --delete --itemize-changes --dry-run /srv/data/ /srv/store2/web2/latest/tree/srv/data/ >/srv/differences
[ ! -s /srv/differences ] && echo "what was pulled is the same too"
GUEST

say 'a service whose store is not mounted fails, and writes nothing in its place'
guest <<'GUEST'
mv /srv/store /srv/unmounted && mkdir /srv/store
fails systemctl start kedge-backup@web1.service
kedge history web1 --json | head -1 | grep -Eo '"status":[0-9]+|"class":"[a-z]*"'
find /srv/store
rmdir /srv/store && mv /srv/unmounted /srv/store
run systemctl start kedge-backup@web1.service
GUEST

[ "$faults" = 0 ] || echo "FAULTS: $faults"
[ "$faults" = 0 ]
