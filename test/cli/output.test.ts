// stdout is data and stderr is talk: pipelines, readers that go away or are slow, odd names, terminals.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import type { Entry } from '../../lib/rows.ts'
import { dist, done, fake, kedge, type Machine, machine, newTarget, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

/** `kedge` in PATH, as ./setup links it. */
const link = (m: Machine) => fs.symlinkSync(path.join(dist, 'kedge.cjs'), path.join(m.bin, 'kedge'))
const pipeline = (m: Machine, script: string, env: Record<string, string> = {}) => startProgram(m, 'sh', ['-c', script], { env }).result
/** Runs a line of sh on a terminal of its own; stdout is all that the screen shows. */
const onTerminal = (m: Machine, script: string, env: Record<string, string> = {}) =>
  startProgram(m, 'script', ['-q', '-e', '-c', script, '/dev/null'], { env: { TERM: 'dumb', SHELL: '/bin/sh', ...env } }).result

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

test('rows of a large snapshot', async (t) => {
  const m = machine(t)
  link(m)
  const folder = path.join(m.dir, 'source', 'a folder with a long name '.padEnd(240, '.'))
  fs.mkdirSync(folder, { recursive: true })
  for (let i = 0; i < 13_000; i++) fs.closeSync(fs.openSync(path.join(folder, `file ${i}`), 'w'))
  const big = path.join(m.dir, 'source', 'big')
  fs.writeFileSync(big, Buffer.alloc(3_000_000, 'kedge '))
  await makeStore(m, newTarget(m, 'web1', { paths: [path.join(m.dir, 'source')] }))
  await done(m, ['backup', 'web1'])

  await t.test('head takes one line of many, kedge ends with 0, and stderr is silent', async () => {
    for (const command of ['kedge files web1', 'kedge files web1 --json', 'kedge files web1 -q', `kedge cat web1 latest:${big}`]) {
      const { status, lines, stderr } = await pipeline(m, `{ ${command}; echo "status $?" >&2; } | head -c 20`)
      assert.deepEqual([status, lines.length > 0, stderr], [0, true, 'status 0\n'], command)
    }
  })

  await t.test('a reader that is slow loses nothing of 5 MB', async () => {
    const direct = await done(m, ['files', 'web1', '--json'])
    assert.ok(direct.bytes.length > 5_000_000, `${direct.bytes.length} bytes`)
    const slow = await pipeline(m, '{ kedge files web1 --json; echo "status $?" >&2; } | { sleep 1; head -c 70000; sleep 1; cat; }')
    assert.deepEqual([slow.status, slow.stderr], [0, 'status 0\n'])
    assert.equal(sha256(slow.bytes), sha256(direct.bytes))
    assert.equal((direct.rows as Entry[]).filter((entry) => entry.path.startsWith(folder) && entry.type === 'file').length, 13_000)
  })

  await t.test('nor does one on a pipe that another process made non-blocking', async () => {
    const ready = path.join(m.dir, 'ready')
    // node makes a pipe that is its stdout non-blocking, for all who share it.
    const other = `process.stdout.write(''); require('node:fs').writeFileSync('${ready}', ''); setTimeout(() => {}, 60_000)`
    const both = `node -e "${other}" & while [ ! -e ${ready} ]; do sleep 0.1; done; kedge files web1 --json; echo "status $?" >&2; kill $!`
    const slow = await pipeline(m, `{ ${both}; } | { sleep 1; cat; }`)
    assert.equal(slow.stderr, 'status 0\n')
    assert.equal(sha256(slow.bytes), sha256((await done(m, ['files', 'web1', '--json'])).bytes))
  })

  await t.test('a file comes out byte for byte, through a slow reader too', async () => {
    const { bytes, stderr } = await pipeline(m, `kedge cat web1 latest:${big} | { sleep 1; cat; }`)
    assert.equal(stderr, '')
    assert.ok(Buffer.compare(bytes, fs.readFileSync(big)) === 0)
  })

  await t.test(
    'a full disk under stdout is an error, not a success',
    { skip: !fs.existsSync('/dev/full') && 'no /dev/full here' },
    async () => {
      const { status } = await pipeline(m, 'kedge files web1 >/dev/full')
      assert.notEqual(status, 0)
    },
  )
})

test('kedge list | head -1 is the newest snapshot of thousands, status 0, no noise', async (t) => {
  const m = machine(t)
  link(m)
  newTarget(m, 'web1', { env: { STORE_ID: 'x' } })
  const snapshot = (i: number) => {
    const id = createHash('sha256').update(String(i)).digest('hex')
    return { id, time: new Date(1e12 + i * 1000).toISOString(), hostname: 'h', paths: ['/srv'], tags: ['kedge:web1'], tree: id }
  }
  const all = Array.from({ length: 20_000 }, (_, i) => snapshot(i))
  fs.writeFileSync(path.join(m.dir, 'snapshots.json'), JSON.stringify(all))
  fake(m.bin, 'restic', `[ "$1" = snapshots ] && exec cat '${m.dir}/snapshots.json'\nexec '${m.restic.path}' "$@"`)
  const { status, stdout, stderr } = await pipeline(m, '{ kedge list web1 -q; echo "status $?" >&2; } | head -1')
  assert.deepEqual([status, stdout, stderr], [0, `${all.at(-1)?.id}\n`, 'status 0\n'])
  assert.equal((await done(m, ['list', 'web1', '-q'])).lines.length, 20_000)
})

test('kedge targets -q | xargs -n1 kedge backup saves every target', async (t) => {
  const m = machine(t)
  link(m)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes\n')
  const names = ['a', 'b', 'c']
  for (const name of names) await makeStore(m, newTarget(m, name, { paths: [source] }))
  const { status, lines, stderr } = await pipeline(m, 'kedge targets -q | xargs -n1 kedge backup')
  assert.deepEqual([status, stderr], [0, ''])
  assert.deepEqual(
    lines.map((line) => line.split('\t').slice(0, 1).concat(line.split('\t').slice(2, 4))),
    names.map((name) => [name, '1', '6']),
  )
  for (const name of names) assert.equal((await done(m, ['cat', name, `latest:${source}/file`])).stdout, 'bytes\n')
})

test('a backup whose reader went away, or whose stdout is closed, finishes its work', async (t) => {
  const m = machine(t)
  link(m)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes\n')
  const scripts = { 'streams/s': 'echo streamed' }
  for (const name of ['a', 'b']) await makeStore(m, newTarget(m, name, { paths: [source], scripts }))
  const saved = async (name: string) => (await done(m, ['list', name, '-q'])).lines.length
  const gone = await pipeline(m, '{ kedge backup; echo "status $?" >&2; } | true')
  assert.equal(gone.stderr, 'status 0\n')
  assert.deepEqual([await saved('a'), await saved('b')], [2, 2])
  const closed = await pipeline(m, 'kedge backup >&-')
  assert.deepEqual([closed.status, closed.stderr], [0, ''])
  assert.deepEqual([await saved('a'), await saved('b')], [4, 4])
  assert.equal((await done(m, ['cat', 'b', 'latest:/s'])).stdout, 'streamed\n')
  const deaf = await pipeline(m, 'kedge backup a 2>&-; kedge backup nobody 2>&-')
  assert.equal(deaf.status, 2)
  assert.equal(await saved('a'), 6)
})

test('odd names: one line and exact in a pipe, harmless on a terminal', async (t) => {
  const m = machine(t)
  link(m)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  const names = ['new\nline', 'tab\there', 'carriage\rreturn', 'back\\slash', 'esc\x1b[31mred', 'bell\x07', 'c1\x9b31mred', 'ünï']
  for (const name of names) fs.writeFileSync(path.join(source, name), name)
  await makeStore(m, newTarget(m, 'web1', { paths: [source] }))
  await done(m, ['backup', 'web1'])

  const undo: Record<string, string> = { t: '\t', n: '\n', r: '\r', '\\': '\\' }
  const piped = (await done(m, ['files', 'web1', source])).lines.map((line) => line.split('\t'))
  for (const fields of piped) assert.equal(fields.length, 7, fields.join('|'))
  const paths = piped.filter(([, type]) => type === 'file').map(([name = '']) => name.replace(/\\(.)/g, (_, c: string) => undo[c] ?? c))
  assert.deepEqual(paths.sort(), names.map((name) => path.join(source, name)).sort())
  const json = (await done(m, ['files', 'web1', source, '--json'])).rows as Entry[]
  assert.deepEqual(
    json.filter(({ type }) => type === 'file').map((entry) => entry.path),
    paths,
  )

  for (const command of [
    `kedge files web1 ${source}`,
    `kedge files -q web1 ${source}`,
    `kedge files --json web1 ${source}`,
    `kedge cat web1 "latest:${source}/$(printf 'no\\033[31m')"`,
  ]) {
    const { stdout } = await onTerminal(m, command, { NO_COLOR: '1' })
    assert.doesNotMatch(stdout.replaceAll('\r\n', '').replaceAll('\t', ''), /\p{Cc}/u, command)
  }
  const { stdout } = await onTerminal(m, `kedge files web1 ${source}`, { NO_COLOR: '1' })
  for (const shown of ['new line', 'esc\\x1b[31mred', 'bell\\x07', 'ünï']) assert.ok(stdout.includes(shown), stdout)
})

test('a table on a terminal has a header, in colour unless NO_COLOR; a pipe has neither', async (t) => {
  const m = machine(t)
  link(m)
  newTarget(m, 'web1', { env: { RESTIC_REPOSITORY: '/srv/r', GROUP: 'night,disk' } })
  newTarget(m, 'a-longer-name', { env: { RESTIC_REPOSITORY: '/srv/longer' } })
  const table = [
    'TARGET         ENGINE  STORE        GROUPS',
    'a-longer-name  restic  /srv/longer  ',
    'web1           restic  /srv/r       night, disk',
  ]
  const plain = await onTerminal(m, 'kedge targets', { NO_COLOR: '1' })
  assert.deepEqual([plain.status, plain.stdout], [0, table.map((line) => `${line}\r\n`).join('')])
  const coloured = await onTerminal(m, 'kedge targets', { NO_COLOR: '' })
  const [header = '', ...rest] = coloured.stdout.split('\r\n')
  assert.ok(header.startsWith('\x1b[1mTARGET'), JSON.stringify(header))
  assert.equal(header.replaceAll(/\x1b\[\d+m/g, ''), table[0])
  assert.deepEqual(rest, [...table.slice(1), ''])
  const piped = 'a-longer-name\trestic\t/srv/longer\t\nweb1\trestic\t/srv/r\tnight,disk\n'
  assert.equal((await done(m, ['targets'])).stdout, piped)
  assert.equal((await onTerminal(m, 'kedge targets | cat')).stdout, piped.replaceAll('\n', '\r\n'))
  assert.equal((await onTerminal(m, 'kedge targets -q')).stdout, 'a-longer-name\r\nweb1\r\n')
  assert.deepEqual((await done(m, ['targets', '--json'])).rows[0], {
    kind: 'target',
    target: 'a-longer-name',
    engine: 'restic',
    store: '/srv/longer',
    groups: [],
  })
})

test('a failure on a terminal is plain text, and what it quotes cannot command the terminal', async (t) => {
  const m = machine(t)
  link(m)
  const { status, stdout } = await onTerminal(m, `kedge list "$(printf 'x\\033[2Jy')"; kedge config web1 --json`)
  assert.equal(status, 2)
  assert.doesNotMatch(stdout.replaceAll('\r\n', ''), /\p{Cc}/u)
  assert.equal((await kedge(m, ['list', 'a\x1bb'])).status, 2)
})
