// restore --in-place --delete: what the store has lost, or never had, is no reason to delete it.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { done, kedge, machine, newRsyncTarget } from '../harness.ts'

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
