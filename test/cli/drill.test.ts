import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Drilled, RunRow } from '../../lib/rows.ts'
import {
  done,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newest,
  newTarget,
  type Restic,
  restic,
  restics,
  start,
} from '../harness.ts'
import { initStore } from '../store.ts'

type Place = { m: Machine; web1: NewTarget; source: string; files: string[] }

/** A repository with a snapshot of a tree of odd names, made on this host. */
async function place(t: TestContext, tool: Restic): Promise<Place> {
  const m = machine(t, tool)
  const source = path.join(m.dir, 'source')
  const web1 = newTarget(m, 'web1', { paths: [source] })
  fs.mkdirSync(source)
  growTree(source)
  fs.writeFileSync(path.join(source, '-dash and "quotes" $(x)'), 'dash\n')
  const files = fs.readdirSync(source, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  await initStore(m, web1)
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1', source])
  return { m, web1, source, files: files.map((entry) => path.join(entry.parentPath, entry.name)).sort() }
}

const scratchOf = (m: Machine) => path.join(m.state, 'web1', 'scratch')
const left = (m: Machine) => (fs.existsSync(scratchOf(m)) ? fs.readdirSync(scratchOf(m)) : [])
const last = (m: Machine) => JSON.parse(fs.readFileSync(path.join(m.state, 'web1', 'last.json'), 'utf8')).drill.last as RunRow
/** The whole record of the newest run. */
const record = (m: Machine) =>
  JSON.parse(
    fs
      .readFileSync(path.join(m.state, 'web1', 'runs.ndjson'), 'utf8')
      .trim()
      .split('\n')
      .at(-1) ?? '',
  ) as RunRow
const drill = async (m: Machine, ...args: string[]) => (await done(m, ['drill', 'web1', '--json', ...args])).rows as Drilled[]

/** Waits for a file: the sign of a fake. */
async function sign(file: string): Promise<void> {
  for (let i = 0; !fs.existsSync(file); i++) {
    assert.ok(i < 600, `${file} never came`)
    await sleep(50)
  }
}

/** A restic that restores, and then does not end. */
function hanging(m: Machine): string {
  const marker = path.join(m.dir, 'restored')
  fs.rmSync(marker, { force: true })
  fake(
    m.bin,
    'restic',
    `case " $* " in *" restore "*) ${m.restic.path} "$@"; : > '${marker}'; sleep 60 ;; *) exec ${m.restic.path} "$@" ;; esac`,
  )
  return marker
}

for (const tool of restics()) {
  test(`drill with restic ${tool.version}`, async (t) => {
    const { m, web1, source, files } = await place(t, tool)

    await t.test('every file, whatever its name, is restored and found the same as its source, and the record says so', async () => {
      const [row, ...more] = await drill(m, '--count', '100')
      assert.deepEqual(more, [])
      assert.deepEqual([...(row?.sample ?? [])].sort(), files)
      assert.equal(row?.files, files.length)
      assert.equal(row?.source, files.length)
      assert.equal(row?.hashes, 0)
      assert.equal(
        row?.bytes,
        files.reduce((sum, file) => sum + fs.statSync(file).size, 0),
      )
      assert.deepEqual(record(m).results, [row])
      assert.deepEqual(left(m), [])
    })

    await t.test('the newest snapshot of each stream is drilled as well', async () => {
      await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1,stream:app.sql', '--stdin', '--stdin-filename', 'app.sql'], {
        input: 'a dump\n',
      })
      const rows = await drill(m, '--count', '2')
      assert.deepEqual(rows.map((row) => [row.files, row.hashes, row.sample.includes('/app.sql')]).sort(), [
        [1, 1, true],
        [2, 0, false],
      ])
    })

    await t.test('a pack with a wrong byte is status 14, the file is named, and the scratch space is gone', async () => {
      const data = path.join(web1.repository, 'data')
      const packs = fs.readdirSync(data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
      const [pack = ''] = packs
        .map((entry) => path.join(entry.parentPath, entry.name))
        .sort((a, b) => fs.statSync(b).size - fs.statSync(a).size)
      const bytes = fs.readFileSync(pack)
      for (let i = 0; i < bytes.length / 2; i += 1000) bytes[i] = (bytes[i] ?? 0) ^ 0xff
      fs.chmodSync(pack, 0o600)
      fs.writeFileSync(pack, bytes)
      fs.rmSync(path.join(m.cache, 'web1', 'restic'), { recursive: true, force: true })
      const result = await kedge(m, ['drill', 'web1', '--json', '--count', '100'])
      assert.equal(result.status, 14, result.stderr)
      assert.ok(result.stderr.includes(path.join(source, 'deep/big.bin')), result.stderr)
      assert.deepEqual(
        (result.rows as Drilled[]).map(({ sample }) => sample),
        [['/app.sql']],
      )
      assert.equal(last(m).class, 'damaged')
      assert.deepEqual(left(m), [])
    })
  })
}

test('what a drill compares with, and what it leaves', async (t) => {
  const { m, web1, source, files } = await place(t, newest())

  await t.test('a source that changed since is not compared: its hashes are', async () => {
    const [big, secret] = [path.join(source, 'deep/big.bin'), path.join(source, 'secret')]
    const saved = fs.readFileSync(big)
    execFileSync('touch', ['-r', secret, path.join(m.dir, 'time')])
    fs.appendFileSync(big, 'more')
    fs.writeFileSync(secret, 'NOT for all\n')
    execFileSync('touch', ['-r', path.join(m.dir, 'time'), secret]) // to the nanosecond: only its ctime tells
    fs.rmSync(path.join(source, 'none'))
    const [row] = await drill(m, '--count', '100')
    assert.equal(row?.files, files.length)
    assert.equal(row?.hashes, 3)
    fs.writeFileSync(big, saved)
    fs.writeFileSync(path.join(source, 'none'), '')
  })

  await t.test('a difference from an unchanged source is status 14', async () => {
    const cmp = fake(m.bin, 'cmp', 'case "$*" in *three.txt*) exit 1 ;; esac')
    const result = await kedge(m, ['drill', 'web1', '--count', '100'])
    assert.equal(result.status, 14)
    assert.match(result.stderr, /three\.txt': it differs from the source, which is unchanged/)
    assert.doesNotMatch(result.stderr, /a\.txt'/)
    fs.rmSync(cmp)
  })

  await t.test('a file that comes back with another mode is status 14', async () => {
    const script = `${m.restic.path} "$@" || exit; case " $* " in *" restore "*) find '${m.state}' -name suid -exec chmod 0755 {} + ;; esac`
    const tool = fake(m.bin, 'restic', script)
    const result = await kedge(m, ['drill', 'web1', '--count', '100'])
    assert.equal(result.status, 14)
    assert.match(result.stderr, /suid': it came back with mode 755, saved was 4755/)
    fs.rmSync(tool)
  })

  await t.test('without a source on this host only the hashes count', async () => {
    const file = path.join(web1.dir, 'target.env')
    const before = fs.readFileSync(file)
    fs.appendFileSync(file, "HOST='elsewhere'\n")
    const [row] = await drill(m, '--count', '5')
    assert.deepEqual([row?.files, row?.source, row?.hashes], [5, 0, 5])
    fs.writeFileSync(file, before)
  })

  await t.test('--bytes takes as many as fit, and nothing that fits is no success', async () => {
    const [row] = await drill(m, '--bytes', '60')
    assert.ok(row && row.bytes <= 60 && row.files > 3, JSON.stringify(row))
    for (const args of [
      ['--count', '0'],
      ['--bytes', '0'],
    ])
      assert.equal((await kedge(m, ['drill', 'web1', ...args])).status, 2)
  })

  await t.test('an empty snapshot is no success', async () => {
    const empty = newTarget(m, 'empty')
    fs.mkdirSync(path.join(m.dir, 'nothing'))
    await initStore(m, empty)
    assert.equal((await kedge(m, ['drill', 'empty'])).status, 1)
    await restic(m, empty, ['backup', '-q', '--tag', 'kedge:empty', path.join(m.dir, 'nothing')])
    const result = await kedge(m, ['drill', 'empty'])
    assert.equal(result.status, 1)
    assert.match(result.stderr, /it holds no file/)
  })

  await t.test('names that are not UTF-8 are left out of the sample, and counted aloud', async () => {
    const odd = newTarget(m, 'odd')
    const folder = path.join(m.dir, 'odd')
    fs.mkdirSync(folder)
    fs.writeFileSync(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9])]), 'latin1\n')
    fs.writeFileSync(path.join(folder, 'plain'), 'plain\n')
    await initStore(m, odd)
    await restic(m, odd, ['backup', '-q', '--tag', 'kedge:odd', folder])
    const result = await done(m, ['drill', 'odd', '--json'])
    assert.deepEqual((result.rows[0] as Drilled).sample, [path.join(folder, 'plain')])
    assert.match(result.stderr, /1 files? .*not UTF-8/)
  })

  await t.test('SIGINT ends it with 130, and leaves neither scratch space nor a lock', async () => {
    const marker = hanging(m)
    const run = start(m, ['drill', 'web1'])
    await sign(marker)
    assert.equal(left(m).length, 1)
    run.child.kill('SIGINT')
    assert.equal((await run.result).status, 130)
    assert.deepEqual(left(m), [])
    assert.deepEqual(fs.readdirSync(path.join(web1.repository, 'locks')), [])
    assert.equal(last(m).state, 'cancelled')
    fs.rmSync(path.join(m.bin, 'restic'))
  })

  await t.test('what a killed drill leaves, in the state folder or where --scratch said, the next one removes', async () => {
    const elsewhere = path.join(m.dir, 'elsewhere')
    fs.mkdirSync(elsewhere)
    fs.writeFileSync(path.join(elsewhere, 'mine'), 'not to be touched\n')
    fs.writeFileSync(path.join(scratchOf(m), 'names-1'), "a backup's\n")
    for (const args of [[], ['--scratch', elsewhere]]) {
      const marker = hanging(m)
      const run = start(m, ['drill', 'web1', '--wait', '60s', ...args])
      await sign(marker)
      run.child.kill('SIGKILL')
      await run.result
    }
    assert.equal(fs.readdirSync(elsewhere).length, 2)
    fs.rmSync(path.join(m.bin, 'restic'))
    await done(m, ['drill', 'web1', '--scratch', elsewhere, '--wait', '60s'])
    assert.deepEqual(fs.readdirSync(elsewhere), ['mine'])
    assert.deepEqual(left(m), ['names-1'])
  })
})
