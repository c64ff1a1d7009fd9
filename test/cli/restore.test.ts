import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Restored, RunRow } from '../../lib/rows.ts'
import {
  dist,
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
  sameTree,
  startProgram,
} from '../harness.ts'
import { deletesInSaved, keepsFromLinks } from '../inplacecases.ts'
import { initStore, makeStore } from '../store.ts'

type Place = { m: Machine; web1: NewTarget; source: string; fresh: () => string }

/** A repository with a snapshot of a tree, one of a stream, and a newer one of another target. */
async function place(t: TestContext, tool: Restic): Promise<Place> {
  const m = machine(t, tool)
  const source = path.join(m.dir, 'source [x]*')
  const web1 = newTarget(m, 'web1', { paths: [source], exclude: ['*.cache'], scripts: { 'streams/app.sql': 'echo dump' } })
  fs.mkdirSync(source)
  growTree(source)
  await initStore(m, web1)
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1', '--host', 'box', source])
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1,stream:app.sql', '--stdin', '--stdin-filename', 'app.sql'], {
    input: 'a dump\n',
  })
  fs.writeFileSync(path.join(m.dir, 'foreign'), 'of another target\n')
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:other', path.join(m.dir, 'foreign')])
  let n = 0
  return { m, web1, source, fresh: () => path.join(m.dir, `to${n++}`) }
}

function onDisk(dir: string): { files: number; bytes: number } {
  const all = fs.readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory())
  const bytes = all.filter((entry) => entry.isFile()).map((entry) => fs.statSync(path.join(entry.parentPath, entry.name)).size)
  return { files: all.length, bytes: bytes.reduce((sum, size) => sum + size, 0) }
}

const counts = ({ files, bytes }: Restored) => ({ files, bytes })
const literal = (text: string) => text.replace(/[\\*?[]/g, '\\$&')

for (const tool of restics()) {
  test(`restore with restic ${tool.version}`, { concurrency: 1 }, async (t) => {
    const { m, web1, source, fresh } = await place(t, tool)
    const modern = tool.version !== '0.14.0'
    const run = async (...args: string[]) => (await done(m, ['restore', 'web1', '--json', ...args])).rows as Restored[]

    await t.test('a tree comes back as it was, and its row tells how much that is', async () => {
      const to = fresh()
      const [row] = await run('--to', to, '--verify')
      sameTree(path.join(to, source), source)
      assert.deepEqual(row && counts(row), onDisk(to))
      assert.equal(row?.verified, true)
      const last = JSON.parse(fs.readFileSync(path.join(m.state, 'web1', 'last.json'), 'utf8')).restore.last as RunRow
      assert.equal(last.state, 'success')
      assert.deepEqual(last.results, [row])
    })

    await t.test('a dry run counts what the restore then brings, whatever the patterns, and writes nothing', async () => {
      const cases: [string, ...string[]][] = [
        ['latest', '--exclude', 'deep', '--exclude', '*star[[]*', '--exclude', '!deep/er'],
        ['latest', '--include', '**/na?es/[^a-m]*', '--include', 'l[!i]nks', '--include', 'deep/**', '--exclude', '*line'],
        ['latest', '--include', `${literal(source)}/**/*e*`, '--include', '**/s[e-u]?[a-z]*', '--include', '!big.bin'],
        [`latest:${source}`, '--include', '*t*', '--exclude', 'hard'],
        [`latest:${source}/names/ünï$dollar\`tick\\back*star[x]`],
      ]
      for (const [i, args] of cases.entries()) {
        const to = fresh()
        const [planned] = i > 1 ? [] : await run('-n', '--to', to, ...args)
        assert.equal(fs.existsSync(to), false, args.join(' '))
        const [row] = await run('--to', to, ...args)
        assert.deepEqual(row && counts(row), onDisk(to), args.join(' '))
        if (planned) assert.deepEqual(planned, { ...row, action: 'would restore', dryRun: true }, args.join(' '))
      }
    })

    await t.test('what --explain prints restores the same by hand', async () => {
      const to = fresh()
      const what = `latest:${source}/names`
      const { stdout } = await done(m, ['restore', 'web1', '--to', to, '--explain', what])
      const result = await startProgram(m, '/bin/sh', ['-ec', stdout]).result
      assert.equal(result.status, 0, result.stderr)
      sameTree(path.join(to, source, 'names'), path.join(source, 'names'))
    })

    await t.test('a restore in place brings the bytes back and leaves what else is there', async () => {
      const file = path.join(source, 'deep/er/three.txt')
      const before = fs.readFileSync(file)
      fs.writeFileSync(file, 'overwritten by mistake\n')
      fs.writeFileSync(path.join(source, 'deep/er/mine'), 'new since\n')
      const [row] = await run('--in-place', `latest:${source}/deep`)
      assert.deepEqual(fs.readFileSync(file), before)
      assert.equal(fs.readFileSync(path.join(source, 'deep/er/mine'), 'utf8'), 'new since\n')
      assert.deepEqual(row && counts(row), { files: 2, bytes: 3_000_006 })
      const whole = await kedge(m, ['restore', 'web1', '--in-place'])
      if (modern) assert.equal(whole.status, 0, whole.stderr)
      else {
        assert.equal(whole.status, 1)
        assert.match(whole.stderr, /links\/soft.*file exists/)
        assert.match(whole.stderr, /cannot replace links/)
        assert.match(whole.stderr, /incomplete/)
      }
      fs.rmSync(path.join(source, 'deep/er/mine'))
    })

    if (modern)
      await t.test(
        '--delete takes away what the snapshot does not have, within its paths, and nothing that backups leave out',
        async () => {
          const surplus = path.join(source, 'deep/surplus')
          const beside = path.join(m.dir, 'beside')
          fs.mkdirSync(surplus)
          fs.writeFileSync(path.join(surplus, 'x'), 'x')
          fs.writeFileSync(beside, 'not of this target\n')
          const planned = await done(m, ['restore', 'web1', '--in-place', '--delete', '-n', '--json'])
          assert.match(planned.stderr, /would delete '.*deep\/surplus'/)
          assert.equal((planned.rows[0] as Restored).deleted, 2)
          assert.ok(fs.existsSync(surplus))
          const excluded = path.join(source, 'kept.cache')
          fs.writeFileSync(excluded, 'left out of every backup\n')
          const refused = await kedge(m, ['restore', 'web1', '--in-place', '--delete'])
          assert.equal(refused.status, 15, refused.stderr)
          assert.match(refused.stderr, /refusing to delete '.*kept\.cache': the backup leaves it out/)
          assert.ok(fs.existsSync(surplus))
          const [row] = await run('--in-place', '--delete', '--exclude', '*.cache')
          assert.equal(row?.deleted, 2)
          assert.equal(fs.existsSync(surplus), false)
          assert.ok(fs.existsSync(excluded) && fs.existsSync(beside) && fs.existsSync(web1.repository))
          fs.rmSync(excluded)
          const cache = path.join(source, 'cache')
          fs.mkdirSync(cache)
          fs.writeFileSync(path.join(cache, 'CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55')
          fs.writeFileSync(path.join(cache, 'held'), 'cached\n')
          const env = path.join(web1.dir, 'target.env')
          const text = fs.readFileSync(env, 'utf8')
          const chosen = "BACKUP_ARGS='--no-scan --exclude-larger-than=1M'\n"
          for (const [more, reason] of [
            ['', /refusing to delete '.*\/cache.*': it lies in a cache/],
            [chosen, /BACKUP_ARGS holds '--exclude-larger-than=1M', which may leave files out/],
          ] as const) {
            fs.writeFileSync(env, `${text}${more}`)
            const kept = await kedge(m, ['restore', 'web1', '--in-place', '--delete'])
            assert.equal(kept.status, 15, kept.stderr)
            assert.match(kept.stderr, reason)
            assert.ok(fs.existsSync(path.join(cache, 'held')))
          }
          fs.writeFileSync(env, text)
          fs.rmSync(cache, { recursive: true })
        },
      )

    if (!modern)
      await t.test('--delete is status 2 where restic cannot', async () => {
        const result = await kedge(m, ['restore', 'web1', '--in-place', '--delete'])
        assert.equal(result.status, 2)
        assert.match(result.stderr, /--delete needs restic 0\.17 or later: this is 0\.14\.0/)
      })

    await t.test('a damaged pack is status 14, and the file is named', async () => {
      const packs = fs
        .readdirSync(path.join(web1.repository, 'data'), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
      const sizes = packs.map((entry) => path.join(entry.parentPath, entry.name)).sort((a, b) => fs.statSync(b).size - fs.statSync(a).size)
      const pack = sizes[0] as string
      fs.chmodSync(pack, 0o600)
      const bytes = fs.readFileSync(pack)
      for (let i = 0; i < bytes.length / 2; i += 1000) bytes[i] = (bytes[i] ?? 0) ^ 0xff
      fs.writeFileSync(pack, bytes)
      const result = await kedge(m, ['restore', 'web1', '--to', fresh(), '--json', `latest:${source}/deep/big.bin`])
      assert.equal(result.status, 14, result.stderr)
      assert.match(result.stderr, /deep\/big\.bin': .*ciphertext verification failed/)
      assert.match(result.stderr, /is incomplete/)
      assert.equal(result.stdout, '')
    })
  })
}

test('what a restore refuses, and what it tells', async (t) => {
  const { m, source, fresh } = await place(t, newest())
  const run = async (...args: string[]) => (await done(m, ['restore', 'web1', '--json', ...args])).rows as Restored[]

  await t.test('a path comes back with its full path and nothing beside it', async () => {
    const to = fresh()
    await run(`latest:${source}/deep/er`, `latest:${source}/names`, '--to', to)
    for (const name of ['deep/er', 'names']) sameTree(path.join(to, source, name), path.join(source, name))
    assert.deepEqual(fs.readdirSync(path.join(to, source)).sort(), ['deep', 'names'])
  })

  await t.test('nothing that matches is status 1, and nothing is written', async () => {
    for (const args of [['latest:/nothing/here'], [`latest:${source}`, '--include', 'deep', '--exclude', '*']]) {
      const to = fresh()
      const result = await kedge(m, ['restore', 'web1', '--to', to, ...args])
      assert.equal(result.status, 1, args.join(' '))
      assert.match(result.stderr, /nothing in the snapshot matches/)
      assert.equal(fs.existsSync(to), false)
    }
  })

  await t.test('a place that is not empty is refused, but for the lost+found of a fresh disk', async () => {
    const to = fresh()
    fs.mkdirSync(path.join(to, 'lost+found'), { recursive: true })
    await run('--to', to, `latest:${source}/deep/er`)
    const before = onDisk(to)
    const result = await kedge(m, ['restore', 'web1', '--to', to])
    assert.equal(result.status, 15)
    assert.match(result.stderr, /it is not empty/)
    assert.deepEqual(onDisk(to), before)
  })

  await t.test('misuse is status 2', async () => {
    const cases: [RegExp, ...string[]][] = [
      [/where to\?/],
      [/exclude each other/, '--to', '/x', '--in-place'],
      [/--delete needs --in-place/, '--to', '/x', '--delete'],
      [/takes one snapshot/, '--in-place', '--delete', `latest:${source}/deep`, `latest:${source}/names`],
      [/hold the same paths/, '--to', fresh(), 'latest', `latest:${source}/deep`],
      [/not a pattern/, '--to', fresh(), '--include', '[x'],
      [/lies outside/, '--to', fresh(), `latest:${source}`, '--include', '/etc/passwd'],
      [/holds the stream 'app.sql'/, '--in-place', 'latest:/app.sql'],
    ]
    for (const [pattern, ...args] of cases) {
      const result = await kedge(m, ['restore', 'web1', ...args])
      assert.equal(result.status, 2, `${args.join(' ')}: ${result.stderr}`)
      assert.match(result.stderr, pattern)
    }
  })

  await t.test("latest is the target's own, and that of a stream where its file is asked for", async () => {
    const to = fresh()
    const [row] = await run('--to', to, 'latest:/app.sql')
    assert.equal(fs.readFileSync(path.join(to, 'app.sql'), 'utf8'), 'a dump\n')
    assert.deepEqual(row && counts(row), { files: 1, bytes: 7 })
    const other = await kedge(m, ['restore', 'web1', '--to', fresh(), `latest:${m.dir}/foreign`])
    assert.equal(other.status, 1)
  })

  await t.test('what does not fit is refused before anything is written', async () => {
    const script = `case " $* " in *" ls "*) ${newest().path} "$@" | sed 's/"size":[0-9]*/"size":900000000000000/' ;; *) exec ${newest().path} "$@" ;; esac`
    const large = fake(m.bin, 'restic', script)
    const to = fresh()
    const result = await kedge(m, ['restore', 'web1', '--to', to])
    assert.equal(result.status, 1)
    assert.match(result.stderr, /it needs .* PiB, and .* are free/)
    assert.equal(fs.existsSync(to), false)
    fs.rmSync(large)
  })

  await t.test(
    'an ordinary user who may only read the repository has the bytes, and is told of owners that only root can give',
    async () => {
      const to = path.join(fs.mkdtempSync('/tmp/kedge-user-'), 'to')
      t.after(() => fs.rmSync(path.dirname(to), { recursive: true, force: true }))
      assert.equal(process.geteuid?.(), 0, 'this test is run as root')
      const copy = path.join(m.bin, 'restic')
      fs.copyFileSync(newest().path, copy)
      fs.chmodSync(copy, 0o755)
      await startProgram(m, 'chown', ['-R', '65534', path.dirname(to), m.bin, m.home, m.config, m.state, m.cache]).result
      await startProgram(m, 'chmod', ['-R', 'a+rX', path.join(m.dir, 'repositories')]).result
      fs.chmodSync(m.dir, 0o755)
      const args = ['--reuid=65534', '--clear-groups', process.execPath, path.join(dist, 'kedge.cjs'), 'restore', 'web1', '--to', to]
      const result = await startProgram(m, 'setpriv', args, { env: { PATH: `${m.bin}:/usr/bin:/bin:${path.dirname(process.execPath)}` } })
        .result
      assert.equal(result.status, 0, result.stderr)
      assert.equal(result.stderr.match(/only root can give/g)?.length, 1)
      assert.match(result.stderr, /the repository can only be read: restoring without a lock/)
      assert.equal(fs.readFileSync(path.join(to, source, 'deep/er/three.txt'), 'utf8'), 'three\n')
      fs.rmSync(copy)
    },
  )
})

/** Makes a target in a store that opens quickly, and saves it. */
const saved = (m: Machine) => async (name: string, paths: readonly string[]) => {
  await makeStore(m, newTarget(m, name, { paths: [...paths] }))
  await done(m, ['backup', name])
}

test('--delete: of a folder above what was saved nothing else is deleted, and nowhere else', async (t) => {
  const m = machine(t)
  await deletesInSaved(m, saved(m), ({ stdout }, above) =>
    assert.match(stdout, new RegExp(`--include ${above}/saved --include ${above}/second `)),
  )
})

test('--delete is refused where what the backup left out is not known: the exclude file was changed since', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  const db = path.join(source, 'live.db')
  fs.mkdirSync(source)
  for (const file of [db, path.join(source, 'f')]) fs.writeFileSync(file, 'live\n')
  const web1 = newTarget(m, 'web1', { paths: [source], exclude: ['*.db'] })
  await makeStore(m, web1)
  await done(m, ['backup', 'web1'])
  const restore = ['restore', 'web1', '--in-place', '--delete']
  const exclude = path.join(web1.dir, 'exclude')
  const changes = [() => fs.writeFileSync(exclude, ''), () => fs.rmSync(exclude)]
  for (const change of changes) {
    change()
    for (const mode of [['-n'], []]) {
      const refused = await kedge(m, [...restore, ...mode])
      assert.equal(refused.status, 15, refused.stderr)
      assert.match(
        refused.stderr,
        /refusing to delete what snapshot '.*' does not have: '.*web1.*', which may say what is left out, was changed/,
      )
      assert.ok(fs.existsSync(db))
    }
  }
  await done(m, [...restore, '--exclude', '*.db'])
  const forced = await done(m, [...restore, '--force=excludes'])
  assert.match(forced.stderr, /guard 'excludes' overridden/)
  assert.equal(fs.existsSync(db), false)
})

test('in place nothing is written through a link where a folder was saved', async (t) => {
  const m = machine(t)
  await keepsFromLinks(m, saved(m))
})

test('a link above a saved path stays one: a part is restored through it, all of it is refused', async (t) => {
  const m = machine(t)
  const link = path.join(m.dir, 'link')
  const file = path.join(link, 'saved/f')
  fs.mkdirSync(path.join(m.dir, 'real/saved'), { recursive: true })
  fs.symlinkSync('real', link)
  fs.writeFileSync(file, 'saved\n')
  await makeStore(m, newTarget(m, 'web1', { paths: [path.dirname(file)] }))
  await done(m, ['backup', 'web1'])
  fs.writeFileSync(file, 'newer\n')
  for (const what of ['latest', `latest:${m.dir}`]) {
    const result = await kedge(m, ['restore', 'web1', '--in-place', what])
    assert.equal(result.status, 15, result.stderr)
    assert.match(result.stderr, /'.*\/link' is a link to a folder/)
  }
  assert.equal(fs.readFileSync(file, 'utf8'), 'newer\n')
  await done(m, ['restore', 'web1', '--in-place', `latest:${path.dirname(file)}`])
  assert.equal(fs.readFileSync(file, 'utf8'), 'saved\n')
  assert.ok(fs.lstatSync(link).isSymbolicLink())
})
