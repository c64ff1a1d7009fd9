// A file where another tree has a folder: what lies in the folder is not there, and that is no error of whoever looks for it.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { done, kedge, machine, newRsyncTarget, sameTree, start } from '../harness.ts'

async function saved(t: TestContext) {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(path.join(source, 'd'), { recursive: true })
  fs.writeFileSync(path.join(source, 'd/f'), 'in the folder\n')
  fs.writeFileSync(path.join(source, 'z'), 'behind it\n')
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0' } })
  await done(m, ['init', 'web1'])
  return { m, source, web1 }
}

test('a folder of the store that became a file is damage, and what lies behind it is read all the same', async (t) => {
  const { m, source, web1 } = await saved(t)
  await done(m, ['backup', 'web1'])
  const tree = path.join(web1.root, 'latest/tree', source)
  fs.rmSync(path.join(tree, 'd'), { recursive: true })
  fs.writeFileSync(path.join(tree, 'd'), 'a file\n')
  const { atime, mtime } = fs.statSync(path.join(tree, 'z'))
  fs.writeFileSync(path.join(tree, 'z'), 'Behind it\n')
  fs.utimesSync(path.join(tree, 'z'), atime, mtime)
  const result = await kedge(m, ['check', 'web1', '--read-data'])
  assert.equal(result.status, 14, result.stderr)
  assert.match(result.stderr, /\/d: it is a file, was a dir/)
  assert.match(result.stderr, /missing: .*\/d\/f/)
  assert.match(result.stderr, /\/z: its content changed/)
  const kept = fs.readFileSync(path.join(source, 'd/f'), 'utf8')
  const restored = await kedge(m, ['restore', 'web1', '--in-place', '--delete'])
  assert.equal(restored.status, 14, restored.stderr)
  assert.equal(fs.readFileSync(path.join(source, 'd/f'), 'utf8'), kept)
})

test('a folder that was a file in the base is taken up from the run that was cut off', async (t) => {
  const { m, source, web1 } = await saved(t)
  fs.renameSync(path.join(source, 'd'), path.join(source, 'away'))
  fs.writeFileSync(path.join(source, 'd'), 'a file\n')
  await done(m, ['backup', 'web1'])
  fs.rmSync(path.join(source, 'd'))
  fs.renameSync(path.join(source, 'away'), path.join(source, 'd'))
  fs.writeFileSync(path.join(source, 'large'), Buffer.alloc(12 << 20, 'x'))
  fs.appendFileSync(path.join(web1.dir, 'target.env'), 'LIMIT_UP=2M\n')
  const run = start(m, ['backup', 'web1'])
  const cut = path.join(web1.root, 'incomplete')
  const hasFile = () => fs.readdirSync(cut).some((id) => fs.existsSync(path.join(cut, id, 'tree', source, 'd/f')))
  for (let i = 0; i < 500 && !hasFile(); i++) await new Promise((resolve) => setTimeout(resolve, 20))
  run.child.kill('SIGTERM')
  await run.result
  assert.ok(hasFile(), 'it was cut off behind the small file')
  await done(m, ['backup', 'web1'])
  sameTree(path.join(web1.root, 'latest/tree', source), source)
  await done(m, ['check', 'web1', '--read-data'])
})
