import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { catArgs } from '../../lib/engine/rsync/cat.ts'
import { expression } from '../../lib/engine/rsync/find.ts'
import { finds, parsePattern } from '../../lib/pattern.ts'
import type { Entry, Match, Snapshot } from '../../lib/rows.ts'
import { quoteBytes } from '../../lib/shell.ts'
import {
  done,
  kedge,
  type Machine,
  machine,
  type NewRsyncTarget,
  newRsyncTarget,
  type Result,
  type RunOptions,
  startProgram,
} from '../harness.ts'
import { snapshotByHand } from '../rsyncstore.ts'

/** What is hard to name. */
const odd: readonly Buffer[] = [
  'line\nfeed',
  'a\ttab',
  '-rf',
  ' blank ',
  'back\\slash',
  'back\\nslash',
  '\\#012',
  "quo'te",
  '$(id)',
  '*',
  'ü',
  '# kedge',
].map((name) => Buffer.from(name))
const notText = Buffer.from('caf\xe9', 'latin1')
const ids = { first: '2026-01-01T020000Z', second: '2026-01-02T020000Z', stream: '2026-01-03T020000Z', foreign: '2026-01-04T020000Z' }

type House = { m: Machine; target: NewRsyncTarget; source: string }

/** web1 has two snapshots of paths and one of a stream; web2 has the newest of all. */
function house(t: TestContext): House {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  const target = newRsyncTarget(m, 'web1', { paths: [source] })
  fs.mkdirSync(path.join(source, 'deep', 'er'), { recursive: true })
  fs.writeFileSync(path.join(source, 'deep', 'er', 'image.JPG'), randomBytes(300_000))
  for (const name of [...odd, notText]) {
    const file = Buffer.concat([Buffer.from(`${source}/`), name])
    fs.writeFileSync(file, name)
    const folder = Buffer.concat([Buffer.from(`${source}/deep/`), name])
    fs.mkdirSync(folder)
    fs.writeFileSync(Buffer.concat([folder, Buffer.from('/in it')]), name)
  }
  fs.symlinkSync('/etc', path.join(source, 'link'))
  execFileSync('mkfifo', [path.join(source, 'fifo')])
  snapshotByHand(target.root, ids.first, [source])
  fs.writeFileSync(path.join(source, 'deep', 'new.txt'), 'new')
  snapshotByHand(target.root, ids.second, [source], {}, ids.first)
  const dump = path.join(m.dir, 'app.sql')
  fs.writeFileSync(dump, 'select 1')
  streamByHand(target.root, ids.stream, dump)
  snapshotByHand(path.join(target.store, 'web2'), ids.foreign, [dump])
  return { m, target, source }
}

function streamByHand(root: string, id: string, file: string): void {
  const dir = snapshotByHand(root, id, [`${path.dirname(file)}/./${path.basename(file)}`], {
    tags: [`kedge:${path.basename(root)}`, 'stream:app.sql'],
    stream: 'app.sql',
    paths: ['/app.sql'],
  })
  assert.ok(fs.existsSync(path.join(dir, 'tree', 'app.sql')))
}

const byHand = async (m: Machine, args: readonly string[], as: RunOptions = {}): Promise<Result> => {
  const { stdout } = await done(m, [...args, '--explain'], as)
  const result = await startProgram(m, '/bin/sh', ['-e'], { ...as, input: stdout }).result
  assert.equal(result.status, 0, `${stdout}\n${result.stderr}`)
  return result
}

test('list has the snapshots of the target, the newest first; what is unfinished is told, and is none', async (t) => {
  const { m, target } = house(t)
  const all = await done(m, ['list', 'web1', '--json'])
  assert.deepEqual(
    (all.rows as Snapshot[]).map(({ id, stream }) => [id, stream]),
    [
      [ids.stream, 'app.sql'],
      [ids.second, undefined],
      [ids.first, undefined],
    ],
  )
  assert.deepEqual([(all.rows[1] as Snapshot).base, all.stderr], [ids.first, ''])
  assert.deepEqual((await done(m, ['list', 'web1', '-q', '--latest', '1'])).lines, [ids.stream])
  assert.deepEqual((await done(m, ['list', 'web1', '-q', '--stream', 'app.sql'])).lines, [ids.stream])
  assert.match((await done(m, ['list', 'web1', '--stream', 'other'])).stderr, /no snapshot of a stream 'other': there are 'app.sql'/)
  assert.deepEqual((await done(m, ['list', 'web1', '-q', '--all'])).lines[0], `web2/${ids.foreign}`)
  for (const [args, expected] of [
    [[], [ids.stream, ids.second, ids.first]],
    [
      ['--latest', '2'],
      [ids.stream, ids.second],
    ],
    [['--stream', 'app.sql'], [ids.stream]],
    [['-a', '--latest', '1'], [ids.foreign]],
  ] as const) {
    const { lines } = await byHand(m, ['list', 'web1', ...args])
    assert.deepEqual(
      lines.map((line) => line.split(' ')[0]),
      expected,
    )
  }
  fs.mkdirSync(path.join(target.root, 'incomplete', '2026-01-05T020000Z', 'tree'), { recursive: true })
  const left = await done(m, ['list', 'web1'])
  assert.deepEqual([left.lines.length, /'web1': one snapshot is unfinished.*kedge prune -n web1/.test(left.stderr)], [3, true], left.stderr)
  fs.rmSync(path.join(target.root, 'snapshots', ids.first, 'snapshot.json'))
  const damaged = await kedge(m, ['list', 'web1', '-q'])
  assert.deepEqual([damaged.status, damaged.lines], [3, [ids.stream, ids.second]])
  fs.rmSync(path.join(target.store, 'kedge-store.json'))
  assert.equal((await kedge(m, ['list', 'web1'])).status, 10)
})

test('list --explain has the order of list where a second has several snapshots, and where some were made out of order', async (t) => {
  const { m, target, source } = house(t)
  const second = '2026-01-06T020000'
  for (const [id, time] of [
    [`${second}Z`, '2026-01-06T02:00:00.100Z'],
    [`${second}.1Z`, '2026-01-06T02:00:00.200Z'],
    [`${second}.2Z`, '2026-01-06T02:00:00.200Z'],
    [`${second}.10Z`, '2026-01-06T02:00:00.300Z'],
  ] as const)
    snapshotByHand(target.root, id, [source], { time })
  const { lines } = await done(m, ['list', 'web1', '-q'])
  assert.deepEqual(lines.slice(0, 2), [`${second}.10Z`, `${second}.2Z`])
  const bare = await byHand(m, ['list', 'web1'])
  assert.deepEqual(
    bare.lines.map((line) => line.split(' ')[0]),
    lines,
  )
  assert.deepEqual(bare.lines[0], `${second}.10Z ${target.root}/snapshots/${second}.10Z/snapshot.json`)
})

test('list --removed --explain shows the audit of those owners that have one', async (t) => {
  const { m, target } = house(t)
  fs.appendFileSync(path.join(target.dir, 'target.env'), "SNAPSHOTS_OF='web1 web2'\n")
  assert.deepEqual((await byHand(m, ['list', 'web1', '--removed'])).stdout, '')
  fs.writeFileSync(path.join(target.store, 'web2', 'audit.ndjson'), '{"id":"a"}\n{"id":"b"}\n')
  assert.deepEqual((await byHand(m, ['list', 'web1', '--removed', '--latest', '1'])).lines, ['{"id":"b"}'])
})

test('files lists a snapshot, by whatever name, a path of it, and with --here only what lies directly there', async (t) => {
  const { m, source } = house(t)
  const entries = async (...words: string[]) => (await done(m, ['files', 'web1', ...words, '--json'])).rows as Entry[]
  const paths = async (...words: string[]) => (await entries(...words)).map((entry) => entry.path)
  const all = await paths()
  for (const name of odd) assert.ok(all.includes(`${source}/${name}`), `${name}`)
  assert.ok(all.includes(`${source}/caf\ufffd`) && all.includes(`${source}/deep/new.txt`))
  assert.ok(!(await paths('latest-1')).includes(`${source}/deep/new.txt`))
  assert.deepEqual(await paths('2026-01-01'), await paths('latest-1'))
  assert.deepEqual(await paths(`${source}/deep/er`), [`${source}/deep/er`, `${source}/deep/er/image.JPG`])
  assert.deepEqual(await paths('--here', `latest:${source}/deep/er`), [`${source}/deep/er/image.JPG`])
  assert.deepEqual(await paths('--here', 'latest:/'), [`/${source.split('/')[1]}`])
  assert.deepEqual(await paths(`${source}/deep/line\nfeed`), [`${source}/deep/line\nfeed`, `${source}/deep/line\nfeed/in it`])
  assert.deepEqual(await paths(`${source}/deep/caf\ufffd`), [`${source}/deep/caf\ufffd`, `${source}/deep/caf\ufffd/in it`])
  assert.deepEqual(await paths('latest:/app.sql'), ['/app.sql'])
  const [image] = await entries(`${source}/deep/er/image.JPG`)
  const { size, mode, uid, mtimeMs } = fs.statSync(`${source}/deep/er/image.JPG`)
  const mtime = new Date(Math.floor(mtimeMs / 1000) * 1000).toISOString()
  assert.deepEqual(
    [image?.type, image?.size, image?.mode, image?.uid, image?.mtime],
    ['file', size, (mode & 0o7777).toString(8).padStart(4, '0'), uid, mtime],
  )
  for (const absent of [`latest:${source}/none`, `latest:${source}/dee`, '--here latest:/none']) {
    const result = await kedge(m, ['files', 'web1', ...absent.split(' ')])
    assert.deepEqual([result.status, /snapshot '2026-01-02T020000Z' has no '\//.test(result.stderr)], [1, true], result.stderr)
  }
  assert.match((await kedge(m, ['files', 'web1', ids.foreign])).stderr, /target 'web1' has no snapshot '/)
  for (const args of [
    [],
    [`${source}/deep/er`],
    [`${source}/deep/caf\ufffd`],
    [`${source}/deep/line\nfeed`],
    ['--here', `${source}/deep`],
    ['--here', '/'],
  ])
    assert.equal((await byHand(m, ['files', 'web1', ...args])).lines.length, (await paths(...args)).length, args.join(' '))
})

test('cat writes the bytes of any name, a folder as tar, and nothing that a link leads to', async (t) => {
  const { m, target, source } = house(t)
  const image = `${source}/deep/er/image.JPG`
  assert.deepEqual((await done(m, ['cat', 'web1', `latest:${image}`])).bytes, fs.readFileSync(image))
  assert.equal((await done(m, ['cat', 'web1', 'latest:/app.sql'])).stdout, 'select 1')
  const into = path.join(m.dir, 'into')
  for (const name of [...odd, notText]) {
    const what = `latest:${source}/${name.toString('utf8')}`
    assert.deepEqual((await done(m, ['cat', 'web1', what])).bytes, name, what)
    const folder = what.replace('source/', 'source/deep/')
    const tars = [await done(m, ['cat', 'web1', folder])]
    if (/\/[-]|[\n\\\ufffd]/.test(what)) {
      assert.deepEqual((await byHand(m, ['cat', 'web1', what])).bytes, name, what)
      tars.push(await byHand(m, ['cat', 'web1', folder]))
    }
    for (const { bytes } of tars) {
      fs.mkdirSync(into)
      execFileSync('tar', ['-xf', '-', '-C', into], { input: bytes })
      const file = Buffer.concat([Buffer.from(`${into}${source}/deep/`), name, Buffer.from('/in it')])
      assert.deepEqual(fs.readFileSync(file), name, what)
      fs.rmSync(into, { recursive: true })
    }
  }
  const whole = fs.mkdtempSync(path.join(m.dir, 'tar-'))
  execFileSync('tar', ['-xf', '-', '-C', whole], { input: (await done(m, ['cat', 'web1', 'latest:/'])).bytes })
  assert.deepEqual(fs.readFileSync(path.join(whole, image)), fs.readFileSync(image))
  const trouble: readonly (readonly [string, RegExp])[] = [
    [`${source}/none`, /snapshot '2026-01-02T020000Z' has no '/],
    [`${source}/link/passwd`, /has no '/],
    [`${source}/deep/er/image.JPG/x`, /has no '/],
    [`${source}/link`, /it is no file or folder, but a symlink/],
    [`${source}/fifo`, /it is no file or folder, but a fifo/],
  ]
  for (const [wrong, message] of trouble) {
    const result = await kedge(m, ['cat', 'web1', `latest:${wrong}`])
    assert.deepEqual([result.status, result.stdout, message.test(result.stderr)], [1, '', true], result.stderr)
  }
  fs.rmSync(path.join(target.root, 'snapshots', ids.second, 'tree', image))
  assert.equal((await kedge(m, ['cat', 'web1', `latest:${image}`])).status, 14)
})

test('cat of a file that is not what was saved writes nothing: 14', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  for (const name of ['cut', 'emptied', 'link', 'whole']) fs.writeFileSync(path.join(source, name), 'some text\n')
  const web1 = newRsyncTarget(m, 'web1', { paths: [source] })
  const tree = path.join(snapshotByHand(web1.root, '2026-01-01T010000Z', [source]), 'tree', source)
  fs.truncateSync(path.join(tree, 'cut'), 4)
  fs.truncateSync(path.join(tree, 'emptied'))
  fs.rmSync(path.join(tree, 'link'))
  fs.symlinkSync('whole', path.join(tree, 'link'))
  for (const [name, why] of [
    ['cut', /cannot read '.*\/cut' of snapshot '.*': it has 4 bytes in tree\/, saved were 10/],
    ['emptied', /it has 0 bytes in tree\/, saved were 10/],
    ['link', /it is something else in tree\//],
  ] as const) {
    const result = await kedge(m, ['cat', 'web1', `latest:${source}/${name}`])
    assert.deepEqual([result.status, result.stdout], [14, ''], result.stderr)
    assert.match(result.stderr, why)
  }
  assert.equal((await done(m, ['cat', 'web1', `latest:${source}/whole`])).stdout, 'some text\n')
})

test('two names that are shown alike are told, and none of them is taken', async (t) => {
  const { m, target, source } = house(t)
  fs.writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from('caf\xea', 'latin1')]), 'other')
  snapshotByHand(target.root, '2026-01-06T020000Z', [source])
  const result = await kedge(m, ['cat', 'web1', `latest:${source}/caf\ufffd`])
  assert.equal(result.status, 2, result.stderr)
  assert.match(result.stderr, /several names in snapshot '2026-01-06T020000Z' are shown as/)
})

test('find lists a name in every snapshot that has it, and what lies below a folder of that name', async (t) => {
  const { m, target, source } = house(t)
  const found = async (...words: string[]) =>
    ((await done(m, ['find', 'web1', ...words, '--json'])).rows as Match[]).map((row) => [row.snapshot, row.path])
  assert.deepEqual(await found('new.txt'), [[ids.second, `${source}/deep/new.txt`]])
  assert.deepEqual(await found('-i', 'IMAGE.jpg'), [
    [ids.second, `${source}/deep/er/image.JPG`],
    [ids.first, `${source}/deep/er/image.JPG`],
  ])
  assert.deepEqual(await found('--snapshot', 'latest-1', 'deep/er'), [
    [ids.first, `${source}/deep/er`],
    [ids.first, `${source}/deep/er/image.JPG`],
  ])
  const none = await kedge(m, ['find', 'web1', 'image.jpg', 'none*'])
  assert.deepEqual([none.status, /nothing found in the snapshots of 'web1': 'image.jpg', 'none\*'/.test(none.stderr)], [1, true])
  assert.equal((await kedge(m, ['find', 'web1', 'a[b'])).status, 2)
  for (const args of [['new.txt'], ['-i', '*.jp?'], [`${source}/**/er`], ['*\n*'], ['\\**'], ['back\\\\*'], ['d[d-f]*', 'link'], ['**/i*']])
    assert.equal((await byHand(m, ['find', 'web1', ...args])).lines.length, (await found(...args)).length, args.join(' '))
  fs.truncateSync(path.join(target.root, 'snapshots', ids.first, 'manifest'), 300)
  const rest = await kedge(m, ['find', 'web1', 'image.JPG'])
  assert.deepEqual([rest.status, rest.lines.length], [3, 1], 'a damaged manifest does not hide what the others have')
})

test('an ordinary user reads a store of his own; owners in a tar that are not the saved ones are told', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'text')
  const target = newRsyncTarget(m, 'web1', { paths: [source] })
  snapshotByHand(target.root, ids.first, [source], { fake: true })
  execFileSync('chown', ['-R', '65534:65534', m.dir])
  const own = { uid: 65534 }
  assert.equal((await done(m, ['cat', 'web1', `latest:${source}/file`], own)).stdout, 'text')
  assert.equal((await done(m, ['files', 'web1', '-q', `latest:${source}/file`], own)).stdout, `${source}/file\n`)
  const tar = await done(m, ['cat', 'web1', `latest:${source}`], own)
  assert.match(tar.stderr, /warning: the archive has the owners of the files in the store/)
  assert.ok((await byHand(m, ['cat', 'web1', `latest:${source}`], own)).bytes.length > 1000)
  fs.chmodSync(path.join(target.root, 'snapshots', ids.first, 'tree', source, 'file'), 0)
  const closed = await kedge(m, ['cat', 'web1', `latest:${source}/file`], own)
  assert.deepEqual([closed.status, /Permission denied/.test(closed.stderr)], [1, true], closed.stderr)
})

test('a pattern as a regular expression of awk fits what find itself does', () => {
  const paths = ['etc', 'etc/ssh', 'etc/ssh/sshd_config', 'home/x/etc/a.b', 'a]b', 'x/a-b', 'x/a', 'a', 'etcetera', 'a+b', 'etc/x/y/z']
  const patterns = [
    'etc',
    '/etc',
    'ssh*',
    '/etc/**',
    '**/etc',
    '/**/a',
    'x/**/z',
    'a?b',
    'a[]]b',
    '[a-c]',
    '[^a]*',
    'a[+]b',
    '/',
    'a.b',
    '**',
  ]
  for (const text of patterns) {
    let pattern: ReturnType<typeof parsePattern>
    try {
      pattern = parsePattern(text)
    } catch {
      continue // no pattern for either
    }
    const like = new RegExp(expression(pattern))
    assert.deepEqual(
      paths.filter((each) => like.test(each)),
      paths.filter((each) => finds([pattern], `/${each}`)),
      `${text}: ${like}`,
    )
  }
})

test('a name as a word of sh, and what reads it', () => {
  assert.equal(quoteBytes(Buffer.from('plain/ü')), "'plain/ü'")
  assert.equal(quoteBytes(Buffer.from('it\xe9 is\n', 'latin1')), `it"$(printf '\\351')"' is\n'`)
  assert.deepEqual(catArgs('f', Buffer.from('-x')), ['cat', './-x'])
  assert.deepEqual(catArgs('d', Buffer.from('etc')), ['tar', '-cf', '-', 'etc'])
  assert.match(catArgs('d', Buffer.from('a\\b'))[2] ?? '', /--no-unquote.*exec tar \$plain -cf - 'a\\b'$/)
})
