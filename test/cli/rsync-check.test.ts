// check of an rsync store: whatever changed in a snapshot is found and named, and nothing else.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeSnapshot, makeStore, storeId, writeManifest } from '../handmade.ts'
import { done, kedge, type Machine, machine, type NewRsyncTarget, newRsyncTarget } from '../harness.ts'

const [first, second] = ['2026-01-01T020000Z', '2026-01-02T020000Z'] as const

/** Two snapshots that share what did not change: names that sort in odd ways, a link of each kind, an empty folder. */
function house(t: TestContext): { m: Machine; target: NewRsyncTarget; source: string; tree: (id: string, name?: string) => string } {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  for (const folder of ['a', 'a/b', 'a-b', 'empty']) fs.mkdirSync(path.join(source, folder), { recursive: true })
  for (const name of [
    'same',
    'a/b/x',
    'a-b/x',
    'a b',
    '-dash',
    '#hash',
    'tab\there',
    'line\nfeed',
    'back\\slash',
    'back\\#011slash',
    'ünï',
  ])
    fs.writeFileSync(path.join(source, name), `content of ${name}`)
  fs.writeFileSync(path.join(source, 'changes'), 'first')
  fs.writeFileSync(path.join(source, 'empty.txt'), '')
  fs.linkSync(path.join(source, 'same'), path.join(source, 'same-too'))
  fs.symlinkSync('a/b/x', path.join(source, 'link'))
  execFileSync('mkfifo', [path.join(source, 'fifo')])
  const target = newRsyncTarget(m, 'web1', { env: { STORE_ID: storeId }, paths: [source] })
  makeStore(target)
  makeSnapshot(target, source, first)
  fs.writeFileSync(path.join(source, 'changes'), 'second')
  makeSnapshot(target, source, second, { base: first })
  return { m, target, source, tree: (id, name = '.') => path.join(target.root, 'snapshots', id, 'tree', name) }
}

/** The faults that a check tells, without the class and the summary. */
async function faults(m: Machine, ...options: string[]): Promise<string[]> {
  const result = await kedge(m, ['check', 'web1', ...options])
  assert.equal(result.status, 14, result.stderr)
  return result.stderr.split('\n').filter((line) => /^snapshot |^'.*latest'/.test(line))
}

function replace(file: string, make: (file: string) => void): void {
  const { atime, mtime } = fs.lstatSync(file)
  fs.rmSync(file, { recursive: true })
  make(file)
  fs.lutimesSync(file, atime, mtime)
}

/** Changes the bytes of a file and nothing else that can be seen. */
function flip(file: string): void {
  const { atime, mtime } = fs.statSync(file)
  const bytes = fs.readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0)
  fs.writeFileSync(file, bytes)
  fs.utimesSync(file, atime, mtime)
}

test('whole snapshots are found whole, with and without their data', async (t) => {
  const { m } = house(t)
  const [plain] = (await done(m, ['check', 'web1', '--json'])).rows
  assert.deepEqual(plain, { kind: 'checked', target: 'web1', structure: 'ok', read: 'none', verified: 0, oldestVerified: null })
  const [read] = (await done(m, ['check', 'web1', '--read-data', '--json'])).rows
  assert.ok(read?.kind === 'checked' && read.read === 'all' && read.verified === 1 && read.oldestVerified)
})

test('a flipped byte is found by its hash, told once with all snapshots that share it, and not without --read-data', async (t) => {
  const { m, target, source, tree } = house(t)
  const third = '2026-01-03T020000Z'
  fs.writeFileSync(path.join(source, 'same'), 'the third one')
  makeSnapshot(target, source, third, { base: second })
  flip(tree(second, 'same'))
  await done(m, ['check', 'web1'])
  const told = await faults(m, '--read-data')
  assert.equal(told.length, 1)
  assert.match(
    told[0] ?? '',
    new RegExp(
      `^snapshot ${first}: /same: its content changed: md5 [0-9a-f]{32}, was [0-9a-f]{32}; the same file in ${second}; the newest good one of that path: ${third}$`,
    ),
  )
  flip(tree(second, 'changes'))
  flip(tree(first, 'a b'))
  const more = (await faults(m, '--read-data')).join('\n')
  assert.match(
    more,
    new RegExp(`^snapshot ${second}: /changes: its content changed: .*; the same file in ${third}; .* path: ${first}$`, 'm'),
  )
  assert.match(more, new RegExp(`^snapshot ${first}: /a b: .*; the same file in ${second}, ${third}; no good one of that path$`, 'm'))
  const { stderr } = await kedge(m, ['check', 'web1', '--read-data'])
  assert.match(stderr, /hint: do not prune; touch each damaged file at its source, .*; then 'kedge forget web1 ID\.\.\.' takes/)
})

test('of one snapshot twenty faults are told, and how many more there are; -v names them all', async (t) => {
  const { m, target, source, tree } = house(t)
  fs.mkdirSync(path.join(source, 'many'))
  for (let n = 0; n < 30; n++) fs.writeFileSync(path.join(source, 'many', `${n}`), `${n}`)
  const third = '2026-01-03T020000Z'
  makeSnapshot(target, source, third, { base: second })
  for (const name of fs.readdirSync(tree(third, 'many'))) flip(tree(third, `many/${name}`))
  const content = await kedge(m, ['check', 'web1', '--read-data'])
  assert.equal(content.stderr.match(/its content changed: [^;]*; no good/g)?.length, 20 + 3, 'twenty, and three in the last line')
  assert.match(content.stderr, /^the content of 10 more files changed: -v names them$/m)
  fs.rmSync(tree(third, 'many'), { recursive: true })
  fs.utimesSync(tree(third), 0, 0)
  const told = await faults(m)
  assert.equal(told.length, 21)
  const left = 1 + 1 + 30 - 20 // the root's time; the folder
  assert.match(told.at(-1) ?? '', new RegExp(`^snapshot ${third}: and ${left} more: -v names them$`))
  const result = await kedge(m, ['check', 'web1'])
  assert.match(result.stderr, new RegExp(`is damaged: .*; and ${20 + left - 3} more$`, 'm'))
  assert.equal((await faults(m, '-v')).filter((line) => / missing: \/many/.test(line)).length, 31)
})

test('a snapshot that was copied by hand is told to be a copy', async (t) => {
  const { m, tree } = house(t)
  execFileSync('cp', ['-a', path.dirname(tree(first)), path.dirname(tree('2026-01-05T020000Z'))])
  const { stderr } = await kedge(m, ['list', 'web1'])
  assert.match(stderr, new RegExp(`2026-01-05T020000Z' is a copy of snapshot '${first}', as its snapshot.json says`))
})

test('a mode that was changed through a shared inode is named in each snapshot that has it', async (t) => {
  const { m, tree } = house(t)
  fs.chmodSync(tree(second, 'a/b/x'), 0o4711)
  const text = '/a/b/x: its mode is 4711, was 0644'
  assert.deepEqual(await faults(m), [`snapshot ${first}: ${text}`, `snapshot ${second}: ${text}`])
})

test('each kind of change is named: gone, new, another size, time, owner, type, target of a link, a link that was cut', async (t) => {
  const { m, tree } = house(t)
  const past = new Date('2001-02-03T04:05:06Z')
  const keepTime = (folder: string, act: () => void) => {
    const { atime, mtime } = fs.statSync(folder)
    act()
    fs.utimesSync(folder, atime, mtime)
  }
  const cases: [string, (at: (name?: string) => string) => void, RegExp][] = [
    ['deleted', (at) => fs.rmSync(at('a/b/x')), /^missing: \/a\/b\/x$/],
    ['added', (at) => fs.writeFileSync(at('a-b/new\tname'), 'x'), /^not in the manifest: \/a-b\/new\\tname$/],
    ['size', (at) => keepTime(at('changes'), () => fs.appendFileSync(at('changes'), 'x')), /^\/changes: its size is 7, was 6$/],
    ['time', (at) => fs.utimesSync(at('changes'), past, past), /^\/changes: its time is 2001-02-03T04:05:06Z, was /],
    ['owner', (at) => fs.chownSync(at('changes'), 1, 2), /^\/changes: its owner is 1:2, was 0:0$/],
    ['type', (at) => replace(at('empty'), (file) => fs.writeFileSync(file, '')), /^\/empty: it is a file, was a dir$/],
    [
      'target',
      (at) => replace(at('link'), (file) => fs.symlinkSync('a/b/y', file)),
      /^\/link: it is a link to 'a\/b\/y', was to 'a\/b\/x'$/,
    ],
    [
      'cut',
      (at) => replace(at('same-too'), (file) => fs.copyFileSync(at('same'), file)),
      /^\/same-too: it is not the same file as \/same any more$/,
    ],
  ]
  for (const [what, change, expected] of cases) {
    const copy = path.join(m.dir, 'copy')
    execFileSync('cp', ['-a', path.dirname(tree(second)), copy])
    const dirs = ['', 'a', 'a/b', 'a-b'].map((name) => tree(second, name))
    const act = dirs.reduce<() => void>(
      (inner, dir) => () => keepTime(dir, inner),
      () => change((name) => tree(second, name)),
    )
    act()
    const told = (await faults(m)).map((line) => line.replace(`snapshot ${second}: `, ''))
    const [first, ...others] = told.filter((line) => !/files, snapshot.json says/.test(line))
    assert.match(first ?? '', expected, what)
    assert.deepEqual(
      others.filter((line) => !expected.test(line)),
      [],
      `${what}: nothing else is named`,
    )
    fs.rmSync(path.dirname(tree(second)), { recursive: true })
    execFileSync('cp', ['-a', copy, path.dirname(tree(second))])
    fs.rmSync(copy, { recursive: true })
    await done(m, ['check', 'web1'])
  }
})

test('a manifest that is cut, unsorted or gone, a snapshot.json that is gone, and a wrong latest are damage', async (t) => {
  const { m, target, tree } = house(t)
  const manifest = path.join(tree(first), '..', 'manifest')
  const text = fs.readFileSync(manifest, 'latin1')
  const lines = text.trimEnd().split('\n')
  fs.writeFileSync(manifest, text.slice(0, -5), 'latin1')
  assert.match((await faults(m)).join('\n'), new RegExp(`^snapshot ${first}: cannot read '.*manifest': its last line is cut off$`, 'm'))
  fs.writeFileSync(manifest, `${lines.slice(0, -1).join('\n')}\n`, 'latin1')
  const cut = (await faults(m)).join('\n')
  assert.match(cut, /not in the manifest: \/ünï/)
  assert.match(cut, /its manifest has 15 files, snapshot.json says 16/)
  fs.writeFileSync(manifest, `${[lines[0], ...lines.slice(1).reverse()].join('\n')}\n`, 'latin1')
  assert.match((await faults(m)).join('\n'), /it is not sorted at/)
  fs.rmSync(manifest)
  assert.match((await faults(m)).join('\n'), /cannot read '.*manifest': it is gone/)
  const hint = async () => / hint: (.*)/.exec((await kedge(m, ['check', 'web1'])).stderr)?.[1] ?? ''
  const unread = 'a snapshot whose snapshot.json or manifest cannot be read still has its files, in its folder tree'
  const forget = "then 'kedge forget web1 ID...' takes the damaged snapshots away"
  assert.equal(await hint(), `do not prune; ${unread}; ${forget}`)
  fs.writeFileSync(manifest, text, 'latin1')
  await done(m, ['check', 'web1'])
  const link = path.join(target.root, 'latest')
  fs.rmSync(link)
  fs.symlinkSync(`snapshots/${first}`, link)
  const behind = await done(m, ['check', 'web1'])
  assert.ok(behind.stderr.includes(`'${link}' is snapshots/${first}, should be snapshots/${second}: the next backup sets it right`))
  fs.rmSync(link)
  fs.symlinkSync('snapshots/nowhere', link)
  assert.deepEqual(await faults(m), [`'${link}' is snapshots/nowhere, should be snapshots/${second}`])
  assert.equal(await hint(), 'do not prune; remove latest: the next backup makes it again')
  fs.rmSync(link)
  fs.symlinkSync(`snapshots/${second}`, link)
  fs.rmSync(path.join(tree(first), '..', 'snapshot.json'))
  assert.match((await faults(m)).join('\n'), new RegExp(`snapshot '.*/${first}' has no snapshot.json`))
  assert.equal(await hint(), `do not prune; ${unread}; ${forget}`)
})

test('a snapshot that another host prunes while it is checked is no damage', async (t) => {
  const { m, target, tree } = house(t)
  // Many entries, so that the check is still at it when the first of them is seen.
  for (let n = 0; n < 3000; n++) fs.writeFileSync(tree(first, `many ${n}`), '')
  writeManifest(tree(first), path.join(tree(first), '..', 'manifest'))
  const stored = path.join(tree(first), '..', 'snapshot.json')
  const json = JSON.parse(fs.readFileSync(stored, 'utf8'))
  fs.writeFileSync(stored, JSON.stringify({ ...json, counts: { ...json.counts, files: json.counts.files + 3000 } }))
  await done(m, ['check', 'web1'])
  const aside = path.join(target.root, 'aside')
  for (let wait = 0; wait < 12; wait++) {
    const running = kedge(m, ['check', '--read-data', 'web1'])
    await sleep(80 + 40 * wait)
    fs.renameSync(path.dirname(tree(first)), aside)
    const result = await running
    assert.equal(result.status, 0, result.stderr)
    fs.renameSync(aside, path.dirname(tree(first)))
  }
})

test('--within reads the slices that are due, each once, and all of them in time; damage in one is not noted as read', async (t) => {
  const { m, tree } = house(t)
  const [row] = (await done(m, ['check', 'web1', '--within=2d', '--json'])).rows
  assert.ok(row?.kind === 'checked' && row.read === 'slices' && row.slices === 1 && row.verified === 0.5, JSON.stringify(row))
  const [next] = (await done(m, ['check', 'web1', '--within=2d', '--json'])).rows
  assert.ok(next?.kind === 'checked' && next.verified === 1 && next.oldestVerified, JSON.stringify(next))
  const file = path.join(m.state, 'web1', 'verified.json')
  const long = Math.floor(Date.now() / 1000) - 3 * 86_400
  const known = { ...JSON.parse(fs.readFileSync(file, 'utf8')), since: long, paced: long, bytes: new Array(256).fill(long) }
  fs.writeFileSync(file, JSON.stringify(known))
  flip(tree(first, 'same'))
  assert.match((await faults(m, '--within=2d')).join('\n'), /^snapshot 2026-01-01T020000Z: \/same: its content changed/)
  const { bytes } = JSON.parse(fs.readFileSync(file, 'utf8')) as { bytes: number[] }
  const unread = bytes.flatMap((at, byte) => (at === long ? byte : []))
  assert.equal(unread.length, 128, 'the half without damage was noted')
  assert.ok(unread.includes(Number.parseInt(createHash('md5').update('content of same').digest('hex').slice(0, 2), 16)))
})

test('what --explain prints finds in plain sh the names and the content that changed', async (t) => {
  const { m, tree } = house(t)
  const sh = async (...options: string[]) => {
    const { stdout } = await done(m, ['check', 'web1', '--explain', ...options])
    try {
      return execFileSync('/bin/sh', ['-c', `${stdout}\nexit 0`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], env: m.env })
    } catch (error) {
      return `${(error as { stdout: string }).stdout}${(error as { stderr: string }).stderr}`
    }
  }
  const unnamed = (text: string) => text.split('\n').filter((line) => /^(missing|not in|.*FAILED)/.test(line))
  fs.mkdirSync(tree(first, 'folder\nfeed'))
  fs.writeFileSync(tree(first, 'folder\nfeed/x'), '')
  const manifest = path.join(tree(first), '..', 'manifest')
  writeManifest(tree(first), manifest)
  // A backup's manifest has no line for the folder into which all of it goes.
  fs.writeFileSync(manifest, fs.readFileSync(manifest, 'latin1').replace(/^\.\t.*\n/m, ''), 'latin1')
  assert.deepEqual(unnamed(await sh('--read-data')), [])
  fs.rmSync(tree(first, 'tab\there'))
  fs.writeFileSync(tree(second, 'stranger'), '')
  flip(tree(second, 'back\\#011slash'))
  const told = unnamed(await sh('--read-data'))
  assert.deepEqual(told, [
    'missing: tab\there',
    'not in the manifest: stranger',
    'back\\#011slash: FAILED',
    'tab\there: FAILED open or read',
    'back\\#011slash: FAILED',
  ])
  await kedge(m, ['check', 'web1', '--within=2d'])
  const one = unnamed(await sh('--within=2d'))
  fs.rmSync(path.join(m.state, 'web1', 'verified.json'))
  const other = unnamed(await sh('--within=2d'))
  assert.deepEqual([...one, ...other].filter((line) => line.startsWith('back')).length, 2, 'each half has its own files')
})

test('an ordinary user checks a store of his own', { skip: process.getuid?.() !== 0 && 'only root can become another user' }, async (t) => {
  const { m, tree } = house(t)
  execFileSync('chown', ['-hR', '65534:65534', m.dir])
  for (const id of [first, second]) writeManifest(tree(id), path.join(tree(id), '..', 'manifest'))
  const run = (...options: string[]) => kedge(m, ['check', 'web1', ...options], { uid: 65534 })
  const whole = await run('--read-data')
  assert.equal(whole.status, 0, whole.stderr)
  flip(tree(first, 'changes'))
  const bad = await run('--read-data')
  assert.equal(bad.status, 14, bad.stderr)
  assert.match(bad.stderr, /changes: its content changed/)
})

test('a snapshot that a run made, and that neither prune nor forget took, is told as gone; nothing else is', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  const target = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0' } })
  await done(m, ['init', 'web1'])
  const made: string[] = []
  for (let i = 0; i < 3; i++)
    for (const row of (await done(m, ['backup', 'web1', '--json'])).rows) if (row.kind === 'summary') made.push(row.snapshot)
  await done(m, ['forget', 'web1', made[0] as string])
  assert.doesNotMatch((await done(m, ['check', 'web1'])).stderr, /gone/)
  fs.rmSync(path.join(target.root, 'snapshots', made[1] as string), { recursive: true })
  assert.match((await done(m, ['check', 'web1'])).stderr, new RegExp(`warning: snapshots that runs made are gone: ${made[1]};`))
  // Another store has none of them, and nobody took them from it.
  fs.rmSync(target.store, { recursive: true })
  const file = path.join(target.dir, 'target.env')
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^STORE_ID=.*\n/m, ''))
  await done(m, ['init', 'web1'])
  assert.doesNotMatch((await done(m, ['check', 'web1'])).stderr, /gone/)
  const [row] = (await done(m, ['backup', 'web1', '--json'])).rows
  assert.ok(row?.kind === 'summary' && row.suspect === undefined, JSON.stringify(row))
})
