import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Target } from '../lib/contract.ts'
import { checkArgs } from '../lib/engine/rsync/args.ts'
import { backupArgs, hasNanoseconds, lackingOf, operands, type Plan } from '../lib/engine/rsync/argv.ts'
import { classOf, failureOf, isTransient, saidBy } from '../lib/engine/rsync/errors.ts'
import { parseItem } from '../lib/engine/rsync/output.ts'
import type { Probe } from '../lib/engine/rsync/probe.ts'
import { hear, noTrouble } from '../lib/engine/rsync/trouble.ts'
import type { Version } from '../lib/engine/rsync/version.ts'
import type { Class } from '../lib/failure.ts'

const version = (text: string): Version => ({
  flavour: 'rsync',
  numbers: text.split('.').map(Number),
  protocol: 31,
  text: `rsync ${text}`,
})
const probed = (more: Partial<Probe> = {}): Probe => ({
  flavour: 'rsync',
  protocol: 31,
  numbers: [3, 2, 7],
  text: 'rsync 3.2.7',
  skew: 0,
  ...more,
})
const target = (env: Record<string, string> = {}) => ({ name: 'web1', dir: '/nowhere', env }) as unknown as Target
const plan = (more: Partial<Plan> = {}): Plan => ({
  here: version('3.5.0'),
  there: undefined,
  root: true,
  without: new Set(),
  bases: [],
  rules: undefined,
  sources: ['/etc'],
  to: '/s/web1/incomplete/x/tree/',
  resume: false,
  partial: '.kedge-partial-0123456789ab',
  dryRun: false,
  fine: true,
  ...more,
})
const output = ['--8-bit-output', '--no-human-readable', '-ii', '--out-format=%n//%i %B %U %G %l %M %C%L']
const start = ['env', 'RSYNC_CHECKSUM_LIST=md5', 'rsync']

test('a local backup by root copies straight, with all that a file has', () => {
  assert.deepEqual(backupArgs(target(), plan({ bases: ['/s/web1/snapshots/a/tree'], rules: '/s/r' })), [
    ...start,
    '-aHAXSR',
    '--numeric-ids',
    '--one-file-system',
    '--modify-window=-1',
    '--partial-dir=.kedge-partial-0123456789ab',
    '--exclude=.kedge-partial-0123456789ab',
    '--link-dest=/s/web1/snapshots/a/tree',
    '--from0',
    '--exclude-from=/s/r',
    ...output,
    '--',
    '/etc',
    '/s/web1/incomplete/x/tree/',
  ])
})

test('the words follow what is asked for, and what the two sides can', () => {
  const table: [what: string, words: string[], absent: string[], env: Record<string, string>, more: Partial<Plan>][] = [
    ['no root', ['--fake-super', 'sh -c \'shift; eval "$*"\' sh', '--old-args', 'localhost:/etc'], ['/etc'], {}, { root: false }],
    ['no root, before 3.2.4', ['--fake-super', 'localhost:/etc'], ['--old-args'], {}, { root: false, here: version('3.2.3') }],
    ['no root, no xattrs', ['-aHASR', '/etc'], ['--fake-super'], {}, { root: false, without: new Set(['X']) }],
    ['a pull', ['web:/etc', '--timeout=600', '--old-args'], ['--fake-super'], { SOURCE_HOST: 'web' }, { there: probed() }],
    ['a pull without root', ['web:/etc', '--fake-super'], [], { SOURCE_HOST: 'web' }, { there: probed(), root: false }],
    ['sudo', ['--rsync-path=sudo -n rsync'], [], { SOURCE_HOST: 'web', SOURCE_RSYNC: 'sudo -n rsync' }, { there: probed() }],
    [
      'openrsync',
      ['-aHSR'],
      ['--modify-window=-1'],
      { SOURCE_HOST: 'web' },
      { there: probed({ flavour: 'openrsync', protocol: 27 }), without: new Set(['A', 'X']) },
    ],
    ['protocol 30', [], ['--modify-window=-1'], { SOURCE_HOST: 'web' }, { there: probed({ protocol: 30 }) }],
    ['3.1.2 here', [], ['--modify-window=-1'], {}, { here: version('3.1.2') }],
    ['other file systems', [], ['--one-file-system'], { ONE_FILE_SYSTEM: 'no' }, {}],
    ['a limit to the store', ['--bwlimit=512'], [], { LIMIT_UP: '512K', LIMIT_DOWN: '1K' }, {}],
    ['a limit from the host', ['--bwlimit=100'], [], { SOURCE_HOST: 'web', LIMIT_UP: '512K', LIMIT_DOWN: '100K' }, { there: probed() }],
    ['a limit below a kilobyte', ['--bwlimit=1'], [], { LIMIT_UP: '10' }, {}],
    ['more options', ['--insecure-links', '-z'], [], { BACKUP_ARGS: '--insecure-links -z' }, {}],
    ['a local file that was cut off', ['--no-whole-file'], [], {}, { resume: true }],
    ['a far file that was cut off', [], ['--no-whole-file'], { SOURCE_HOST: 'web' }, { resume: true, there: probed() }],
    ['a dry run', ['--dry-run'], [], {}, { dryRun: true }],
    ['by hand', [], ['--partial-dir=.kedge-partial-0123456789ab', '--exclude=.kedge-partial-0123456789ab'], {}, { partial: undefined }],
    ['names', ['--files-from=/s/n', '--recursive', '--from0', '/'], ['/etc'], {}, { from: '/s/n' }],
  ]
  for (const [what, words, absent, env, more] of table) {
    const args = backupArgs(target(env), plan(more))
    for (const word of words) assert.ok(args.includes(word), `${what}: ${word} in ${args.join(' ')}`)
    for (const word of absent) assert.ok(!args.includes(word), `${what}: no ${word} in ${args.join(' ')}`)
    assert.ok(!args.some((word) => /inplace|append/.test(word)), what)
  }
})

test('at most twenty bases are given', () => {
  const args = backupArgs(target(), plan({ bases: Array.from({ length: 30 }, (_, i) => `/b${i}`) }))
  assert.deepEqual(
    args.filter((word) => word.startsWith('--link-dest=')),
    Array.from({ length: 20 }, (_, i) => `--link-dest=/b${i}`),
  )
})

test('paths on another host are quoted for its shell, once', () => {
  const both = plan({ there: probed() })
  assert.deepEqual(operands(target({ SOURCE_HOST: 'me@web' }), both, ['/a b', "/it's", '/x*', '/plain']), [
    'me@web:/a\\ b',
    ":/it\\'s",
    ':/x\\*',
    ':/plain',
  ])
  assert.deepEqual(operands(target({ SOURCE_HOST: 'me@fe80::1' }), both, ['/a']), ['me@[fe80::1]:/a'])
})

test('of rsync’s options those on a list may be added, and the others are refused by name', () => {
  const refused = [
    ...['--inplace', '--append', '--delete', '--delete-after', '--link-dest=/x', '-n', '-nz', '--out-format=%n', '--rsh=ssh', '-v'],
    ...['--no-R', '--files-from=/x', '--remove-source-files', '--read-batch=/x', '--backup', '--iconv=utf8', '--chmod=u+w', '/etc'],
    ...['--exclude', '--exclude=!', '--filter !', '-f !', '--max-size', '--compress=9', '--checksum-choice=none', '--copy-unsafe-links'],
  ]
  for (const words of refused)
    assert.throws(() => checkArgs(target({ BACKUP_ARGS: `-z ${words}` })), { class: 'config', hint: /allowed: .*--max-size=…/ }, words)
  const allowed = [
    ...['', '-z', '-zcW', '--insecure-links --max-size=1G', '--max-size 1G -z', '--exclude=*.o --include *.c', '-f -s_/x'],
    ...['--exclude-from=/r', '--no-H --no-acls', '--bwlimit=1m --timeout=9', '--log-file=/l'],
  ]
  for (const words of allowed) checkArgs(target({ BACKUP_ARGS: words }))
})

test('the operator’s rules stand behind kedge’s, and a file of them has lines', () => {
  const env = { BACKUP_ARGS: '-z --exclude-from=/mine' }
  const words = backupArgs(target(env), plan({ rules: '/s/r', from: '/s/n' }))
  const wanted = ['--from0', '--exclude-from=/s/r', '--no-from0', '-z', '--exclude-from=/mine', '--from0']
  const there = words.filter((word) => wanted.includes(word))
  assert.deepEqual(there, wanted)
  assert.ok(!backupArgs(target({ BACKUP_ARGS: '-z' }), plan({ rules: '/s/r' })).includes('--no-from0'))
})

test('nanoseconds want 3.1.3 here and protocol 31 there', () => {
  assert.equal(hasNanoseconds({ here: version('3.1.3'), there: undefined }), true)
  assert.equal(hasNanoseconds({ here: version('3.1.2'), there: undefined }), false)
  assert.equal(hasNanoseconds({ here: version('3.5.0'), there: probed({ protocol: 30 }) }), false)
  assert.deepEqual(lackingOf(probed({ flavour: 'openrsync' })), ['A', 'X'])
})

test('rsync’s lines become lines of a manifest', () => {
  const blank = ' '.repeat(32)
  const md5 = '9dd4e461268c8034f5c8564e155c67a6'
  const table: [line: string, cells: unknown[] | undefined][] = [
    [`tmp/x/f//>f+++++++++ rwxr-xr-x 0 0 1 2026/11/20-13:54:37 ${md5}`, ['tmp/x/f', 'f', 0o755, 0, 0, 1, 1795182877, '>', md5, '']],
    [`/d///cd+++++++++ rwxrwxrwt 0 0 4096 1970/01/01-00:00:00 ${blank}`, ['d', 'd', 0o1777, 0, 0, 4096, 0, '>', '', '']],
    [`/.///.d          rwxr-xr-x 0 0 4096 1969/12/31-23:59:59 ${blank}`, ['.', 'd', 0o755, 0, 0, 4096, -1, '=', '', '']],
    [`a//hf          rwsr-x--T 7 8 3 2100/01/01-00:00:00 ${blank}`, ['a', 'f', 0o5750, 7, 8, 3, 4102444800, '=', '', '']],
    [`a//hf+++++++++ rw-r--r-- 0 0 3 1970/01/01-00:00:00 ${blank} => b/c`, ['a', 'f', 0o644, 0, 0, 3, 0, '>', '', '=> b/c']],
    [`a//cL+++++++++ rwxrwxrwx 0 0 6 1970/01/01-00:00:00 ${blank} -> x -> y`, ['a', 'l', 0o777, 0, 0, 6, 0, '>', '', '-> x -> y']],
    [`a//cf...p..... rw------- 0 0 6 1970/01/01-00:00:00 ${blank}`, ['a', 'f', 0o600, 0, 0, 6, 0, '>', '', '', true]],
    [`a\tb => c//cS+++++++++ rw------- 0 0 0 1970/01/01-00:00:00 ${blank}`, ['a\\#011b => c', 'p', 0o600, 0, 0, 0, 0, '>', '', '']],
    ['sending incremental file list', undefined],
    ['', undefined],
  ]
  for (const [line, cells] of table) {
    const item = parseItem(line)
    assert.deepEqual(item && Object.values(item), cells, line)
  }
})

test('rsync’s messages are sorted by what they are about', () => {
  const trouble = noTrouble()
  for (const line of [
    'rsync: [sender] opendir "/u/in" failed: Permission denied (13)',
    'rsync: [sender] send_files failed to open "/u/se\\#303\\#244": Permission denied (13)',
    'rsync: [sender] read errors mapping "/u/bad": Input/output error (5)',
    'rsync: [sender] link_stat "/nope" failed: No such file or directory (2)',
    'rsync: link_stat "/older" failed: No such file or directory (2)',
    'rsync: [receiver] mkstemp "/s/.f.x" failed: No space left on device (28)',
    'rsync: [generator] link "/s/a" => b failed: Too many links (31)',
    'rsync: [receiver] chown "/s/c" failed: Operation not permitted (1)',
    'file has vanished: "/u/gone"',
    'directory has vanished: "/u/away"',
    '--link-dest arg does not exist: /s/base',
    'rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]',
    'something new',
    'rsync: filename overflows max-path len by 905: /u/deep/er',
    'skipping overly long name: /u/long',
    '[sender] cannot convert filename: /u/name (Invalid or incomplete multibyte or wide character)',
    'rsync: [sender] read errors mapping "/u/log": No data available (61)',
    'WARNING: u/log failed verification -- update discarded (will try again).',
    'ERROR: u/busy failed verification -- update discarded.',
    'IO error encountered -- skipping file deletion',
    'discarding over-long filter: x',
    'could not make way for new symlink: u/link',
    'could not make way for new regular file: u/fi le',
    'could not make way for new special file: u/\\#303\\#244: b',
  ])
    hear(trouble, line)
  assert.deepEqual(
    [...trouble.unreadable],
    [
      ['/u/in', 'permission denied'],
      ['/u/seä', 'permission denied'],
      ['/u/bad', 'input/output error'],
      ['/u/deep/er', 'the path is too long'],
      ['/u/long', 'the path is too long'],
      ['/u/name', 'its name cannot be converted'],
      ['u/busy', 'it changed while it was read, twice'],
    ],
  )
  assert.deepEqual([[...trouble.shrunk], trouble.left], [['/u/log'], ['discarding over-long filter: x']])
  assert.deepEqual([...trouble.missing], ['/nope', '/older'])
  const inTheWay = 'something else is in its place'
  assert.deepEqual(
    [...trouble.unkept],
    [
      ['/s/c', 'chown: Operation not permitted'],
      ['u/link', inTheWay],
      ['u/fi le', inTheWay],
      ['u/ä: b', inTheWay],
    ],
  )
  assert.deepEqual([trouble.blocked, noTrouble().blocked], [true, false])
  assert.deepEqual([trouble.full, trouble.crowded, trouble.vanished], ['No space left on device', 1, 2])
  assert.deepEqual([[...trouble.lost], trouble.said], [['/s/base'], ['something new']])
})

test('statuses and messages get their class, and what may pass is tried again', () => {
  const cut =
    'rsync: connection unexpectedly closed (4711 bytes received so far) [receiver]\nrsync error: error in rsync protocol data stream (code 12) at io.c(232)'
  const table: [status: number, stderr: string, remote: boolean, kind: Class, again: boolean][] = [
    [1, 'rsync: --frob: unknown option', false, 'config', false],
    [2, 'protocol version mismatch -- is your shell clean?', true, 'config', false],
    [11, 'rsync: [receiver] write failed on "/s/f": No space left on device (28)', false, 'space', false],
    [11, 'rsync: [Receiver] mkdir "/s/x" failed: Permission denied (13)', false, 'permission', false],
    [12, cut, true, 'unreachable', true],
    [12, cut, false, 'tool', false],
    [
      12,
      'sudo: a password is required\nrsync: connection unexpectedly closed (0 bytes received so far) [Receiver]',
      true,
      'permission',
      false,
    ],
    [12, '/usr/bin/rrsync: option -L has been disabled on this server', true, 'config', false],
    [14, 'rsync: [Receiver] Failed to exec ssh: No such file or directory (2)', true, 'config', false],
    [10, 'rsync: failed to connect to web: Connection refused (111)', true, 'unreachable', true],
    [30, '[Receiver] io timeout after 600 seconds -- exiting', true, 'unreachable', true],
    [35, '', true, 'unreachable', true],
    [127, 'sh: rsync: not found', true, 'config', false],
    [255, 'me@web: Permission denied (publickey).', true, 'auth', false],
    [255, 'Host key verification failed.', true, 'auth', false],
    [255, 'ssh: connect to host web port 22: Connection timed out', true, 'unreachable', true],
    [255, 'ssh: Could not resolve hostname web: Name or service not known', true, 'unreachable', false],
    [20, 'rsync error: received SIGINT, SIGTERM, or SIGHUP (code 20) at rsync.c(874) [generator=3.5.0]', false, 'tool', false],
  ]
  for (const [status, stderr, remote, kind, again] of table) {
    assert.equal(classOf({ status, stderr }, { remote }), kind, `${status} ${stderr}`)
    assert.equal(isTransient({ status, stderr }, { remote }), again, `${status} ${stderr}`)
  }
  const unbound = { status: 127, signal: null, stderr: 'bash: line 1: /usr/local/bin/kedge-rsync-only: No such file or directory' }
  const { class: kind, hint } = failureOf("back up 'web1'", unbound, { remote: true })
  assert.deepEqual([kind, hint?.includes('kedge key NAME --script')], ['config', true])
  const failure = failureOf("back up 'web1'", { status: 12, signal: null, stderr: cut }, { remote: true })
  assert.equal(failure.message, "cannot back up 'web1': error in rsync protocol data stream")
  assert.equal(
    saidBy('rsync: [Receiver] mkdir "/s/x" failed: Permission denied (13)\nrsync error: x (code 11)'),
    'mkdir "/s/x" failed: Permission denied (13)',
  )
})
