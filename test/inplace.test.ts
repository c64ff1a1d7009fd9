// A file replaced in its place: nothing but what it holds changes, for whoever writes into target.env.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { changeText } from '../lib/inplace.ts'
import { dist, done, kedge, machine, newTarget, scratch, startProgram } from './harness.ts'

const group = 4321
const isRoot = process.geteuid?.() === 0

/** A file elsewhere, open to a group, and a link to it. */
function linked(t: TestContext, text = 'A=1\n') {
  const dir = scratch(t)
  const [real, link] = [path.join(dir, 'vault/real'), path.join(dir, 'link')]
  fs.mkdirSync(path.dirname(real))
  fs.writeFileSync(real, text)
  fs.symlinkSync(real, link)
  share(real)
  return { dir, real, link }
}

function share(file: string): void {
  if (isRoot) fs.chownSync(file, 0, group)
  fs.chmodSync(file, 0o660) // wider than a umask leaves a new file
}

function isShared(file: string): void {
  const { gid, mode } = fs.statSync(file)
  assert.equal(mode & 0o7777, 0o660)
  if (isRoot) assert.equal(gid, group)
}

test('a link stays a link, and the file has the group and mode that it had', async (t) => {
  const { real, link } = linked(t)
  await changeText(link, (text) => `${text}B=2\n`)
  assert.equal(fs.readFileSync(real, 'utf8'), 'A=1\nB=2\n')
  assert.equal(fs.readlinkSync(link), real)
  isShared(real)
})

test('what cannot be changed leaves nothing beside the file', async (t) => {
  const { real, link } = linked(t)
  await assert.rejects(
    changeText(link, () => {
      throw new Error('no')
    }),
    /^Error: no$/,
  )
  assert.deepEqual([fs.readdirSync(path.dirname(real)), fs.readFileSync(real, 'utf8')], [['real'], 'A=1\n'])
})

test('init, rename and new leave links to target.env, and their groups, as they are', async (t) => {
  const m = machine(t)
  const vault = path.join(m.dir, 'vault')
  fs.mkdirSync(vault)
  const files = ['web1', 'web2'].map((name) => {
    const file = path.join(
      newTarget(m, name, { paths: [m.home], env: { COPY_TO: name === 'web1' ? 'web2' : undefined } }).dir,
      'target.env',
    )
    const real = path.join(vault, name)
    fs.renameSync(file, real)
    fs.symlinkSync(real, file)
    share(real)
    return real
  })
  const [one = '', two = ''] = files
  for (const name of ['web1', 'web2']) await done(m, ['init', name])
  await done(m, ['rename', 'web2', 'store'])
  const made = await kedge(m, ['new', '--copy-of', 'web1', '--repo', path.join(m.dir, 'third'), '--secret', 'file', 'third'])
  assert.equal(made.status, 0, made.stderr)
  assert.match(fs.readFileSync(one, 'utf8'), /^COPY_TO='?store third'?$/m)
  assert.match(fs.readFileSync(two, 'utf8'), /^STORE_ID=/m)
  assert.equal(fs.readlinkSync(path.join(m.config, 'targets/web1/target.env')), one)
  assert.equal(fs.readlinkSync(path.join(m.config, 'targets/store/target.env')), two)
  for (const file of files) isShared(file)
})

test('where target.env is a mount of its own, init says the line to add, and leaves nothing beside it', async (t) => {
  const m = machine(t)
  fs.writeFileSync(path.join(m.home, 'a'), 'saved')
  const { dir } = newTarget(m, 'web1', { paths: [m.home] })
  const env = path.join(dir, 'target.env')
  const [text, names] = [fs.readFileSync(env, 'utf8'), fs.readdirSync(dir)]
  const inside = (...args: string[]) =>
    startProgram(m, 'unshare', [isRoot ? '-m' : '-rm', 'sh', '-c', `mount --bind '${env}' '${env}' || exit 99; exec "$@"`, 'sh', ...args])
      .result
  const able = await inside('true')
  if (able.status !== 0) return t.skip(`NOT SHOWN: no file can be mounted here: ${able.stderr}`)
  const made = await inside(process.execPath, path.join(dist, 'kedge.cjs'), 'init', 'web1')
  assert.equal(made.status, 3, made.stderr)
  const [, id = ''] = /cannot write '.*target\.env': add the line STORE_ID=([0-9a-f]{64})$/m.exec(made.stderr) ?? []
  assert.deepEqual([fs.readFileSync(env, 'utf8'), fs.readdirSync(dir)], [text, names])
  fs.appendFileSync(env, `STORE_ID=${id}\n`)
  await done(m, ['backup', 'web1'])
})
