// ssh without a host: its words, its failures, host keys as texts, and the forced command, which is shown attacks.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import type { Target } from '../lib/contract.ts'
import { clock, flavour, kept } from '../lib/doctor/rsync.ts'
import { greeted, judged, notGreeted } from '../lib/engine/rsync/probe.ts'
import type { Failure } from '../lib/failure.ts'
import { fingerprint, lookupName, parseKnown, parsePlace, parseScan, withHostKeys } from '../lib/source/hostkeys.ts'
import { hostWord, optionPath, remoteShell, sshCommand } from '../lib/source/ssh.ts'
import { sshFailure } from '../lib/source/sshfailure.ts'
import { standing, vouched } from '../lib/sshkey/host.ts'
import { authorizedLine, forced, restrictions, steps, variants } from '../lib/sshkey/line.ts'
import { judge, trials } from '../lib/sshkey/prove.ts'
import { judgeReader, readerOf } from '../lib/sshkey/reader.ts'
import { fake, root, scratch } from './harness.ts'

const target = (env: Record<string, string> = {}) =>
  ({ name: 'web1', dir: '/etc/kedge/targets/web1', env: { SOURCE_HOST: 'root@web1', CONNECT_TIMEOUT: '7s', ...env } }) as unknown as Target

test('each failure of ssh has its class, and a hint that leads on', () => {
  const rows: readonly (readonly [said: string, kind: Failure['class'], message: RegExp, hint: RegExp])[] = [
    [
      'No ED25519 host key is known for [127.0.0.1]:2299 and you have requested strict checking.\r\nHost key verification failed.\r\n',
      'auth',
      /not known/,
      /kedge key web1 --host/,
    ],
    [
      '@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key for web1 has changed and you have requested strict checking.\nHost key verification failed.',
      'auth',
      /ANOTHER ONE/,
      /ask who runs the host/,
    ],
    ['@ REVOKED HOST KEY DETECTED! @\nHost key verification failed.', 'auth', /revoked/, /--host/],
    ['root@web1: Permission denied (publickey).', 'auth', /not let in/, /authorized_keys/],
    ['Received disconnect from 1.2.3.4: Too many authentication failures', 'auth', /not let in/, /authorized_keys/],
    ['@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nroot@web1: Permission denied (publickey).', 'auth', /read by others/, /chmod 600/],
    ['Load key "/x": invalid format\nroot@web1: Permission denied (publickey).', 'auth', /cannot be read/, /passphrase/],
    ['ssh: connect to host web1 port 22: Connection refused', 'unreachable', /connection refused/, /sshd/],
    ['ssh: connect to host web1 port 22: Connection timed out', 'unreachable', /no answer in time/, /is the host up/],
    ['Connection timed out during banner exchange', 'unreachable', /no answer in time/, /is the host up/],
    ['ssh: connect to host web1 port 22: No route to host', 'unreachable', /no route/, /is the host up/],
    ['ssh: Could not resolve hostname web1: Name or service not known', 'unreachable', /resolved/, /SOURCE_HOST/],
    ['kex_exchange_identification: Connection closed by remote host', 'unreachable', /closed/, /is the host up/],
    ['Unable to negotiate with 1.2.3.4 port 22: no matching host key type found. Their offer: ssh-rsa', 'config', /algorithm/, /SSH_ARGS/],
    ['command-line: line 0: Bad configuration option: nonsense', 'config', /nonsense/, /ssh_config/],
    ['something new', 'unreachable', /something new/, /is the host up/],
    ['', 'unreachable', /no reason/, /is the host up/],
  ]
  for (const [said, kind, message, hint] of rows) {
    const failure = sshFailure(target(), said)
    assert.equal(failure.class, kind, said)
    assert.match(failure.message, /^cannot reach 'root@web1': /)
    assert.match(failure.message, message)
    assert.match(failure.hint ?? '', hint)
  }
})

test('whatever a target says, ssh asks nobody and knows hosts by kedge’s own file', () => {
  const words = sshCommand(target({ SOURCE_PORT: '2222', SSH_KEY: '/k/50%', SSH_ARGS: '-oStrictHostKeyChecking=no -4' }), '/tmp/a b/s')
  const values = words.flatMap((word, i) => (words[i - 1] === '-o' ? [word] : []))
  assert.ok(values.includes('BatchMode=yes') && values.includes('ConnectTimeout=7') && values.includes('ServerAliveInterval=15'))
  assert.ok(values.includes('ControlPath="/tmp/a b/s"'))
  assert.deepEqual(words.slice(words.indexOf('-p'), words.indexOf('-p') + 2), ['-p', '2222'])
  assert.ok(words.includes('IdentityFile=/k/50%%'))
  // The first of two counts for ssh.
  assert.ok(words.indexOf('StrictHostKeyChecking=yes') < words.indexOf('-oStrictHostKeyChecking=no'))
  assert.equal(optionPath('/etc/kedge/known_hosts'), '/etc/kedge/known_hosts')
  assert.ok(!sshCommand(target()).join(' ').includes('IdentityFile'))
})

test('a path comes to the host as it is, whether sh or rrsync reads it', () => {
  for (const each of [
    '/srv/a b',
    "/it's",
    '/$HOME',
    '/`id`',
    '/a;b|c&d',
    '/*?[x]',
    '/größe',
    '/a\\nb',
    '/line\nfeed',
    '/tab\there',
    '/!"#~{}<>()',
  ]) {
    const { stdout } = spawnSync('sh', ['-c', `printf '%s' ${hostWord(each)}`])
    assert.equal(stdout.toString(), each)
    if (!each.includes('\n')) assert.equal(hostWord(each).replace(/\\(.)/g, '$1'), each)
  }
  assert.equal(hostWord('/etc/kedge-1.2,3=4@5%6+7:8_9'), '/etc/kedge-1.2,3=4@5%6+7:8_9')
})

const keyA = 'AAAAC3NzaC1lZDI1NTE5AAAAIMJThVHUnc0qjKTjbGxfVMp/YoUQ5r8Z7CXSrYirS291'
const keyB = 'AAAAC3NzaC1lZDI1NTE5AAAAIIw/m87mZPvDtJP96IQA165XZ3gHypj85YGzxb4oWdXV'
const rsa = 'AAAAB3NzaC1yc2EAAAADAQABAAAAgQC'
const ed = (key: string) => ({ type: 'ssh-ed25519', key })

test('what a host shows is read, the best key first, and its fingerprint is what ssh-keygen says', () => {
  const shown = parseScan(`# web1:22 SSH-2.0-OpenSSH_9.2\nweb1 ssh-rsa ${rsa}\n[web1]:2222 ssh-ed25519 ${keyA}\n\nnonsense\n`)
  assert.deepEqual(
    shown.map(({ type }) => type),
    ['ssh-ed25519', 'ssh-rsa'],
  )
  const { stdout } = spawnSync('ssh-keygen', ['-lf', '-'], { input: `ssh-ed25519 ${keyA} x\n` })
  assert.equal(stdout.toString().split(' ')[1], fingerprint(ed(keyA)))
  assert.equal(lookupName('web1', 22), 'web1')
  assert.equal(lookupName('::1', 2222), '[::1]:2222')
})

test('where a host is, is what ssh makes of it', () => {
  const text = 'user backup\nhostname 10.0.0.7\nport 2222\nproxycommand none\nidentityfile ~/.ssh/id\n'
  assert.deepEqual(parsePlace(text), { host: '10.0.0.7', port: 2222, name: '[10.0.0.7]:2222', user: 'backup', proxied: false })
  assert.equal(parsePlace(`${text}hostkeyalias web1\n`).name, 'web1')
  assert.equal(parsePlace('hostname a\nport 22\nproxyjump bastion\n').proxied, true)
})

test('new keys take the place of the host’s old ones, and of nothing else', () => {
  const text = `# mine\nother ssh-ed25519 ${keyB}\nweb1 ssh-ed25519 ${keyA}\n@revoked web1 ssh-rsa ${rsa}\nweb1 ssh-rsa ${rsa}\nlast ssh-rsa ${rsa}`
  const known = parseKnown(
    `# Host web1 found: line 3 \nweb1 ssh-ed25519 ${keyA}\n# Host web1 found: line 4 REVOKED\n@revoked web1 ssh-rsa ${rsa}\n# Host web1 found: line 5 \nweb1 ssh-rsa ${rsa}\n`,
  )
  assert.deepEqual(
    known.map(({ line, mark, type }) => [line, mark, type]),
    [
      [3, '', 'ssh-ed25519'],
      [4, 'REVOKED', 'ssh-rsa'],
      [5, '', 'ssh-rsa'],
    ],
  )
  assert.equal(
    withHostKeys(text, 'web1', [ed(keyB)], known),
    `# mine\nother ssh-ed25519 ${keyB}\n@revoked web1 ssh-rsa ${rsa}\nlast ssh-rsa ${rsa}\nweb1 ssh-ed25519 ${keyB}\n`,
  )
  assert.equal(withHostKeys('', 'web1', [ed(keyA)], []), `web1 ssh-ed25519 ${keyA}\n`)
})

test('a host is known, unknown, or another one than it was', () => {
  const known = (key: string, type = 'ssh-ed25519', mark = '') => ({ type, key, line: 1, mark })
  const more = { type: 'ssh-rsa', key: rsa }
  const rows = [
    [[ed(keyA)], [], 'unknown'],
    [[ed(keyA)], [known(keyA)], 'known'],
    [[ed(keyA), more], [known(keyA)], 'known'],
    [[ed(keyB)], [known(keyA)], 'changed'],
    [[ed(keyA), { ...more, key: 'AAAAother' }], [known(keyA), known(rsa, 'ssh-rsa')], 'changed'],
    [[more], [known(keyA)], 'changed'],
    [[ed(keyA)], [known(keyB, 'ssh-ed25519', 'CA')], 'known'],
    [[ed(keyA)], [known(keyB, 'ssh-ed25519', 'REVOKED')], 'unknown'],
  ] as const
  for (const [shown, found, wanted] of rows) assert.equal(standing(shown, found), wanted, JSON.stringify([shown, found]))
})

test('a fingerprint vouches for its own key and for no other that is shown beside it', () => {
  const shown = [ed(keyA), ed(keyB)]
  assert.deepEqual(vouched(shown, [fingerprint(ed(keyB))], 'web1'), [ed(keyB)])
  assert.deepEqual(vouched(shown, [`${fingerprint(ed(keyB))}=`], 'web1'), [ed(keyB)])
  assert.throws(() => vouched(shown, [fingerprint(ed(keyB)), 'SHA256:AAAA'], 'web1'), /shows no key SHA256:AAAA/)
})

test('every variant is bound, and only plain runs what it is asked', () => {
  for (const variant of variants) {
    const line = authorizedLine(variant, ed(keyA), 'web1')
    assert.ok(line.startsWith('restrict') && line.endsWith(`ssh-ed25519 ${keyA} kedge:web1`), line)
    assert.equal(line.includes('command='), variant !== 'plain')
    assert.ok(steps(variant, 'web1', 'backup').some((step) => step.includes('~backup/.ssh/authorized_keys')))
  }
  assert.equal(restrictions('command'), `restrict,command="${forced}"`)
  assert.match(steps('sudo', 'web1', 'backup').join('\n'), /backup ALL=\(root\) NOPASSWD: \S+ ""/)
  assert.match(steps('doas', 'web1', 'backup').join('\n'), /permit nopass .* backup as root cmd \S+ args$/m)
})

test('an rsync is told by its greeting, and by its version where it says one', () => {
  assert.equal(greeted('\x1f\0\0\0'), 31)
  for (const text of ['', 'Welcome\n', '\x1f\0\0', '\0\0\0\x1f']) assert.equal(greeted(text), undefined)
  const none = { status: 1, stdout: '', stderr: 'refused' }
  const at = 1_790_000_000_000
  assert.deepEqual(judged(31, none, at), {
    flavour: 'rsync',
    protocol: 31,
    numbers: undefined,
    text: 'rsync (protocol 31)',
    skew: undefined,
  })
  assert.equal(judged(27, none, at).flavour, 'openrsync')
  assert.equal(judged(29, none, at).text, 'openrsync')
  const said = { status: 0, stdout: '1790000120\nrsync  version 3.2.7  protocol version 31\n', stderr: '' }
  assert.deepEqual([judged(31, said, at).text, judged(31, said, at).skew], ['rsync 3.2.7', 121])
  assert.equal(judged(31, { ...said, stdout: '1789999880\n' }, at + 500).skew, -120)
})

test('why no rsync greets is told by what came in its place', () => {
  const rows: readonly (readonly [status: number, stdout: string, stderr: string, kind: Failure['class'], text: RegExp])[] = [
    [127, '', 'sh: 1: rsync: not found\n', 'config', /rsync: not found/],
    [127, '', '', 'config', /not found/],
    [1, '', 'sudo: a password is required\n', 'permission', /password/],
    [1, '', 'doas: Operation not permitted\n', 'permission', /not permitted/],
    [1, '', 'backup is not in the sudoers file.\n', 'permission', /sudoers/],
    [0, 'Welcome to web1\nmore', '', 'config', /prints text .*'Welcome to web1'/],
    [1, '', 'kedge-rsync-only: refused: the program sudo\n', 'config', /refused/],
    [12, '', '', 'config', /status 12/],
  ]
  for (const [status, stdout, stderr, kind, text] of rows) {
    const failure = notGreeted(target({ SOURCE_RSYNC: 'sudo -n rsync' }), { status, stdout, stderr })
    assert.equal(failure.class, kind, stderr || stdout)
    assert.match(failure.message, /^cannot run 'sudo -n rsync' on 'root@web1': /)
    assert.match(failure.message, text)
    assert.ok(failure.hint)
  }
})

test('what doctor says of another host and of a store’s disk', () => {
  const there = { flavour: 'rsync', protocol: 31, numbers: [3, 2, 7], text: 'rsync 3.2.7', skew: 0 } as const
  assert.equal(flavour(target(), there).level, 'ok')
  assert.match(flavour(target(), { ...there, flavour: 'openrsync', protocol: 27, text: 'openrsync' }).text, /no ACLs/)
  assert.match(flavour(target(), { ...there, protocol: 30 }).text, /whole seconds/)
  assert.deepEqual(
    [60, -60, 61, -61, undefined].map((skew) => clock({ skew }).level),
    ['ok', 'ok', 'warning', 'warning', 'ok'],
  )
  const whole = { name: 'ext4', links: true, xattrs: true, fine: true }
  const rows = [
    [whole, true, 'ok'],
    [undefined, true, 'ok'],
    [{ name: 'vfat', links: false }, true, 'blocked'],
    [{ ...whole, xattrs: false }, false, 'blocked'],
    [{ ...whole, xattrs: false }, true, 'ok'],
    [{ ...whole, memory: true }, true, 'warning'],
    [{ ...whole, fine: false }, true, 'warning'],
    [{ name: 'fuse' }, true, 'warning'],
  ] as const
  for (const [found, asRoot, level] of rows) assert.equal(kept('/srv', found, asRoot).level, level, JSON.stringify(found))
})

test('what was permitted and should not be is blocked, but for a plain account', () => {
  const [first] = trials
  const terminal = trials.find(({ check }) => check === 'terminal')
  assert.ok(first && terminal)
  const answer = (stdout: string, stderr = '') => ({ status: 0, signal: null, stdout, stderr })
  assert.equal(judge(first, 'command', answer('uid=0(root)')).level, 'blocked')
  assert.equal(judge(first, 'plain', answer('uid=0(root)')).level, 'ok')
  assert.equal(judge(first, 'command', answer('')).level, 'ok')
  assert.equal(judge(terminal, 'plain', answer('', '')).level, 'blocked')
  assert.equal(judge(terminal, 'plain', answer('', 'PTY allocation request failed on channel 2')).level, 'ok')
})

test('who reads is told by a folder that is closed to everybody but root', () => {
  const listing = (status: number, stdout: string, stderr = '') => readerOf({ status, stdout, stderr })
  const line = (mode: string) => `${mode}          4,096 2026/11/20 17:02:11 .\n-rw-r--r--             65 2026/10/16 23:04:00 .profile\n`
  assert.equal(listing(0, line('drwx------')), 'root')
  assert.equal(listing(0, line('dr-xr-x---')), 'root', "Fedora's")
  assert.equal(listing(0, line('drwx-wx--T')), 'root')
  assert.equal(listing(0, line('drwxr-xr-x')), undefined, 'open to all')
  const denied = 'rsync: [sender] opendir "/root" failed: Permission denied (13)\n'
  assert.equal(listing(23, line('drwx------'), denied), 'another')
  assert.equal(listing(23, '', 'rsync: [sender] link_stat "/root/." failed: No such file or directory (2)\n'), undefined)
  assert.equal(listing(1, '', 'rsync error: --sender root is not below'), undefined)
  assert.equal(judgeReader('root', 'sudo').level, 'ok')
  assert.equal(judgeReader('another', 'doas').level, 'blocked')
  assert.equal(judgeReader(undefined, 'sudo').level, 'warning')
  for (const variant of ['command', 'rrsync', 'plain'] as const) assert.equal(judgeReader('another', variant).level, 'ok')
})

const script = path.join(root, 'ssh/kedge-rsync-only')
const sends = 'rsync --server --sender -logDtprRe.LsfxCIvu --numeric-ids'

/** What the other side asks for, and the words that rsync is then started with. */
const allowed: readonly (readonly [string, readonly string[]])[] = [
  [`${sends} . /etc`, ['--server', '--sender', '-logDtprRe.LsfxCIvu', '--numeric-ids', '.', '/etc']],
  ['rsync --server --sender -lHogDtpAXrRSe.iLsfxCIvu --numeric-ids --timeout=600 --bwlimit=100 . /a /b', ['.', '/a', '/b']],
  [`${sends} . '/srv/a b' '/srv/it'\\''s'`, ['.', '/srv/a b', "/srv/it's"]],
  [`${sends} . /srv/a\\ b\\;c\\$d`, ['.', '/srv/a b;c$d']],
  [`${sends} . '' `, ['.', '']],
  [`${sends} --from0 --files-from=- . /`, ['--from0', '--files-from=-', '.', '/']],
  [`${sends} . /srv/größe`, ['.', '/srv/größe']],
  ['openrsync --server --sender -logDtpr . /etc', ['--server', '--sender', '-logDtpr', '.', '/etc']],
]

/** What it must refuse: none of it may start anything. */
const attacks: readonly string[] = [
  '',
  ' ',
  'id',
  'sh',
  'rsync',
  'rsync --server -logDtpre.LsfxCIvu . /etc',
  'rsync --sender --server -logDtpre.LsfxCIvu . /etc',
  'rsync --server -logDtpre.LsfxCIvu --sender . /etc',
  'rsync --daemon --config=/tmp/x',
  'rsync --server --daemon .',
  `${sends} --remove-source-files . /etc`,
  `${sends} . /etc --remove-source-files`,
  `${sends} --remove-sent-files . /etc`,
  `${sends} --log-file=/etc/cron.d/x . /etc`,
  `${sends} --log-file /etc/cron.d/x . /etc`,
  `${sends} --write-batch=/tmp/x . /etc`,
  `${sends} --only-write-batch=/tmp/x . /etc`,
  `${sends} --write-devices . /etc`,
  `${sends} --files-from=/etc/shadow . /`,
  `${sends} --temp-dir=/tmp . /etc`,
  `${sends} --backup-dir=/tmp . /etc`,
  `${sends} --rsync-path=x . /etc`,
  `${sends} --rsh=sh . /etc`,
  `${sends} -e sh . /etc`,
  `${sends} -esh . /etc`,
  `${sends} -e.sh/x . /etc`,
  `${sends} -T /tmp . /etc`,
  `${sends} --secluded-args . /etc`,
  `${sends} --protect-args . /etc`,
  'rsync --server --sender -slogDtpre.LsfxCIvu . /etc',
  'rsync --server --sender -logDtprbe.LsfxCIvu . /etc',
  `${sends} . /etc; id`,
  `${sends} . /etc && id`,
  `${sends} . /etc | id`,
  `${sends} . /etc & id`,
  `${sends} . $(id)`,
  `${sends} . $HOME`,
  `${sends} . \`id\``,
  `${sends} . ~root`,
  `${sends} . /etc/*`,
  `${sends} . "/etc"`,
  `${sends} . /etc > /tmp/x`,
  `${sends} . /etc < /etc/shadow`,
  `${sends} . {a,b}`,
  `${sends} . '/etc`,
  `${sends} . /etc\\`,
  `${sends} . /etc\nid`,
  `${sends} . \\\n/etc`,
  `${sends} -- . /etc`,
  `${sends} - . /etc`,
  `${sends} . '--remove-source-files' /etc`,
  `${sends} . \\-\\-remove-source-files /etc`,
  '/tmp/rsync --server --sender -r . /etc',
  '../rsync --server --sender -r . /etc',
  'sudo -n rsync --server --sender -r . /etc',
  'rsync\\ --server --sender -r . /etc',
  'openrsync --server . /etc',
]

test('whatever the name of a file, rsync and ssh read the word that was meant', (t) => {
  const dir = scratch(t)
  const bin = path.join(dir, 'bin')
  fake(bin, 'ssh', `printf '%s\\0' "$@" > '${dir}/words'; exit 1`)
  for (const name of ["o'brien", 'dq"x', 'pc%h', `o'b "r" %h`, "'", "''x", 'back\\slash', 'ends\\', 'a b#c']) {
    const key = `/cfg ${name}/key${name}`
    const place = target({ SSH_KEY: key, SSH_ARGS: '-oKnownHostsCommand=/bin/false -oNoHostAuthenticationForLocalhost=yes' })
    spawnSync('rsync', ['-e', remoteShell(place), 'host:/x', `${dir}/`], { env: { PATH: `${bin}:${process.env.PATH}` } })
    const words = fs.readFileSync(path.join(dir, 'words'), 'utf8').split('\0')
    const own = sshCommand(place).slice(1)
    assert.deepEqual(words.slice(0, own.length), own, name)
    const { stdout, stderr } = spawnSync('ssh', [...own, '-G', 'host'], { env: { PATH: process.env.PATH } })
    // ssh shows what it has read before it expands percent signs.
    assert.ok(stdout.toString().includes(`\nidentityfile ${key.replaceAll('%', '%%')}\n`), `${name}: ${stderr}`)
    assert.doesNotMatch(stdout.toString(), /^knownhostscommand/m) // none is not shown
    assert.match(stdout.toString(), /^nohostauthenticationforlocalhost no$/m)
  }
})

test('a long path takes the forced command no long time: 8000 characters', (t) => {
  const file = path.join(scratch(t), 'script')
  fs.writeFileSync(file, fs.readFileSync(script, 'utf8').replace(/^exec .*$/m, 'exit 0'))
  for (const part of ['a', '\\ ', 'ü', "''"]) {
    const env = { PATH: process.env.PATH, SSH_ORIGINAL_COMMAND: `${sends} . /${part.repeat(8000 / part.length)}` }
    // It took minutes: not a measure, but what keeps a host busy.
    assert.equal(spawnSync('dash', [file], { env, timeout: 20_000 }).status, 0, part)
  }
})

test('the forced command passes shellcheck', () => {
  const { status, stdout } = spawnSync('shellcheck', [script])
  assert.equal(status, 0, stdout.toString())
})

for (const shell of ['dash', 'bash', 'mksh', 'ksh93', 'posh']) {
  test(`${shell}: the forced command starts an rsync that reads, word for word as asked, and nothing else`, (t) => {
    const dir = scratch(t)
    const bin = path.join(dir, 'bin')
    for (const name of ['rsync', 'openrsync', 'sudo', 'id', 'sh']) fake(bin, name, `printf '%s\\0' ${name} "$@" > '${dir}/started'`)
    fs.symlinkSync('/usr/bin/printf', path.join(bin, 'printf')) // not each sh has one of its own
    // The same text, but for where it looks for programs.
    const text = fs.readFileSync(script, 'utf8')
    const moved = text.replace(/^PATH=.*$/m, `PATH=${bin}`)
    assert.notEqual(moved, text)
    fs.writeFileSync(path.join(dir, 'script'), moved)
    const started = path.join(dir, 'started')
    const run = (command: string) => {
      fs.rmSync(started, { force: true })
      const { status, stderr } = spawnSync(shell, [path.join(dir, 'script')], {
        env: { PATH: process.env.PATH, SSH_ORIGINAL_COMMAND: command },
        cwd: dir,
        input: '',
      })
      return {
        status,
        stderr: stderr.toString(),
        words: fs.existsSync(started) ? fs.readFileSync(started, 'utf8').split('\0').slice(0, -1) : [],
      }
    }
    const before = fs.readdirSync(dir).sort()
    for (const [command, words] of allowed) {
      const result = run(command)
      assert.deepEqual(result.words.slice(-words.length), words, `${command}\n${result.stderr}`)
      assert.deepEqual(result.words.slice(0, 3), [command.split(' ', 1)[0], '--server', '--sender'])
      assert.equal(result.status, 0)
    }
    for (const command of attacks) {
      const result = run(command)
      assert.deepEqual(result.words, [], `started by: ${command}`)
      assert.match(result.stderr, /^kedge-rsync-only: refused: /, command)
      assert.equal(result.status, 1, command)
    }
    assert.deepEqual(fs.readdirSync(dir).sort(), before)
    assert.ok(attacks.length >= 20)
  })
}
