// restore --in-place --delete: what the store has lost, or never had, is no reason to delete it.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Restored } from '../../lib/rows.ts'
import { done, kedge, machine, newRsyncTarget } from '../harness.ts'
import { deletesInSaved } from '../inplacecases.ts'

async function saved(t: TestContext) {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(path.join(source, 'a/b'), { recursive: true })
  for (const name of ['a/b/f', 'a/h', 'z']) fs.writeFileSync(path.join(source, name), `${name}\n`)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source] })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  return { m, source, web1, tree: path.join(web1.root, 'latest/tree', source) }
}

test('what the snapshot has lost is not deleted where it lives: 14, and nothing is touched', async (t) => {
  const { m, source, tree } = await saved(t)
  fs.rmSync(path.join(tree, 'a/b'), { recursive: true })
  fs.rmSync(path.join(tree, 'a/h'))
  for (const mode of [['-n'], []]) {
    const result = await kedge(m, ['restore', 'web1', '--in-place', '--delete', ...mode])
    assert.equal(result.status, 14, result.stderr)
    assert.match(result.stderr, /the snapshot has lost '.*\/a\/b', '.*\/a\/b\/f', '.*\/a\/h'/)
  }
  for (const name of ['a/b/f', 'a/h', 'z']) assert.equal(fs.readFileSync(path.join(source, name), 'utf8'), `${name}\n`)
})

test('a snapshot in part, and one of a list of names, delete nothing: 15', async (t) => {
  const { m, source, web1 } = await saved(t)
  await done(m, ['backup', 'web1', '--files-from', '-'], { input: `${source}/a/h\n` })
  const [names] = (await done(m, ['list', 'web1', '-q'])).lines
  const ofNames = await kedge(m, ['restore', 'web1', '--in-place', '--delete', `${names}:${source}/a`])
  assert.equal(ofNames.status, 15, ofNames.stderr)
  assert.match(ofNames.stderr, /refusing to delete what snapshot '.*' does not have: it holds a list of names only/)
  fs.writeFileSync(path.join(web1.dir, 'paths'), `${source}\n${m.dir}/gone\n`)
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 3)
  const inPart = await kedge(m, ['restore', 'web1', '--in-place', '--delete'])
  assert.equal(inPart.status, 15, inPart.stderr)
  assert.match(inPart.stderr, /some of what was there could not be saved/)
  for (const name of ['a/b/f', 'a/h', 'z']) assert.equal(fs.readFileSync(path.join(source, name), 'utf8'), `${name}\n`)
})

test('of a folder above what was saved nothing else is deleted, and nowhere else; --explain prints no more', async (t) => {
  const m = machine(t)
  const save = async (name: string, paths: readonly string[]) => {
    newRsyncTarget(m, name, { paths: [...paths] })
    await done(m, ['init', name])
    await done(m, ['backup', name])
  }
  await deletesInSaved(m, save, ({ lines }, above) =>
    assert.deepEqual(
      lines.filter((line) => line.startsWith('rm')),
      ['saved', 'second'].map((name) => `rm -f ${above}/${name}/new`),
    ),
  )
})

test('what the backup left out stays, whatever the settings say by now: 15', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  const db = path.join(source, 'live.db')
  fs.mkdirSync(source)
  for (const file of [db, path.join(source, 'f')]) fs.writeFileSync(file, 'live\n')
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], exclude: ['*.db'] })
  await done(m, ['init', 'web1'])
  const env = path.join(web1.dir, 'target.env')
  const text = fs.readFileSync(env, 'utf8')
  const refused = async (why: RegExp, ...more: string[]) => {
    for (const mode of [['-n'], ['--explain'], []]) {
      const result = await kedge(m, ['restore', 'web1', '--in-place', '--delete', ...mode, ...more])
      assert.equal(result.status, 15, result.stderr)
      assert.match(result.stderr, why)
      assert.ok(fs.existsSync(db))
    }
  }
  await done(m, ['backup', 'web1'])
  fs.writeFileSync(path.join(web1.dir, 'exclude'), '')
  await refused(/refusing to delete '.*live\.db': the backup left it out when it made this snapshot/)
  const spared = await done(m, ['restore', 'web1', '--in-place', '--delete', '--exclude', '*.db', '--json'])
  assert.equal((spared.rows[0] as Restored).deleted, 0)

  await t.test('so it is with options that chose files', async () => {
    fs.writeFileSync(env, `${text}BACKUP_ARGS='--exclude=*.db'\n`)
    await done(m, ['backup', 'web1'])
    fs.writeFileSync(env, text)
    await refused(/BACKUP_ARGS held '--exclude=\*\.db'/)
  })

  await t.test('what was left out of an adopted snapshot nobody knows: refused, unless forced', async () => {
    const stored = path.join(web1.root, 'latest', 'snapshot.json')
    const { excluded, ...rest } = JSON.parse(fs.readFileSync(stored, 'utf8'))
    assert.deepEqual(excluded, { patterns: [], caches: true, oneFileSystem: true, option: '--exclude=*.db', own: [] })
    fs.writeFileSync(stored, JSON.stringify(rest))
    await refused(/refusing to delete what snapshot '.*' does not have: nothing says what was left out/)
    await done(m, ['restore', 'web1', '--in-place', '--delete', `latest:${source}/f`])
    const planned = await done(m, ['restore', 'web1', '--in-place', '--delete', '-n', '--force=excludes'])
    assert.match(planned.stderr, /would delete '.*live\.db'/)
    const forced = await done(m, ['restore', 'web1', '--in-place', '--delete', '--force=excludes'])
    assert.match(forced.stderr, /guard 'excludes' overridden/)
    assert.equal(fs.existsSync(db), false)
  })
})

test('a path that is too long to look at, here or in the store, is named, and nothing of it is deleted', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  const steps = Array.from({ length: 21 }, () => 'd'.repeat(200))
  // In the store its path is longer than here: a folder that fits in both, and a name in it that fits here only.
  let deep = path.join(source, 'near')
  while (deep.length < 3900) deep += `/${'d'.repeat(Math.min(200, 3949 - deep.length))}`
  const here = `${deep}/${'n'.repeat(4074 - deep.length)}`
  const inDeep = (script: string, ...folders: string[]) =>
    execFileSync('sh', ['-ec', `for f; do mkdir -p "$f"; cd -P "$f" 2> /dev/null || cd "$f"; done; ${script}`, 'sh', ...folders], {
      cwd: source,
    })
  fs.mkdirSync(deep, { recursive: true })
  for (const name of ['f', 'far/f']) {
    fs.mkdirSync(path.dirname(path.join(source, name)), { recursive: true })
    fs.writeFileSync(path.join(source, name), 'saved\n')
  }
  newRsyncTarget(m, 'web1', { paths: [source] })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  try {
    fs.writeFileSync(here, 'mine\n')
    inDeep('echo mine > mine', 'far', ...steps)
    inDeep('echo mine > mine', 'surplus', ...steps)
    fs.writeFileSync(path.join(source, 'new'), 'new\n')
    const explained = await done(m, ['restore', 'web1', '--in-place', '--delete', '--explain'])
    assert.deepEqual(explained.stdout.match(/^# left, since its path is too long to look at: /gm)?.length, 3)
    for (const mode of [['-n'], []]) {
      const { rows, stderr } = await done(m, ['restore', 'web1', '--in-place', '--delete', '--json', ...mode])
      assert.equal(stderr.match(/left '.*': its path is too long to look at$/gm)?.length, 3, stderr)
      assert.equal((rows[0] as Restored).deleted, 1)
    }
    assert.ok(fs.existsSync(here) && !fs.existsSync(path.join(source, 'new')))
    for (const top of ['far', 'surplus']) assert.equal(String(inDeep('cat mine', top, ...steps)), 'mine\n')
  } finally {
    execFileSync('rm', ['-rf', source])
  }
})
