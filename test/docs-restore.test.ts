// docs/restore.md: its commands are run as they stand there, on a machine whose files and configuration are gone.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { cheapen } from './cheap.ts'
import { commandsBelow } from './guide.ts'
import { dist, done, fake, growTree, type Machine, machine, newTarget, type Restic, restics, sameTree, startProgram } from './harness.ts'

const section = (heading: string) => commandsBelow('restore.md', heading)

/** A machine with the page's target, lost but for the repository, the original to compare with, and what was kept elsewhere. */
async function lost(
  t: TestContext,
  tool: Restic,
): Promise<{ m: Machine; original: string; source: string; here: (text: string) => string }> {
  const m = machine(t, tool)
  const at = (name: string) => path.join(m.dir, name)
  const here = (text: string) =>
    text.replaceAll('/etc/kedge', m.config).replace(/(?<![\w/])\/(mnt|srv|root)\//g, (_, name: string) => `${at(name)}/`)
  const source = at('srv/web')
  for (const folder of ['srv/web/pages', 'mnt/backup', 'root/kept']) fs.mkdirSync(at(folder), { recursive: true })
  growTree(source)
  fs.writeFileSync(path.join(source, 'index.html'), '<p>here\n')
  fs.writeFileSync(path.join(source, 'pages/one.html'), '<p>one\n')
  const env = { RESTIC_REPOSITORY: at('mnt/backup/web1') }
  const { dir, repository, password } = newTarget(m, 'web1', { paths: [source], env, scripts: { 'streams/app.sql': 'echo "a dump"' } })
  await done(m, ['init', 'web1'])
  cheapen(repository, password)
  await done(m, ['backup', 'web1'])
  fs.writeFileSync(at('root/kept/password'), `${password}\n`, { mode: 0o600 })
  fs.cpSync(dir, at('root/kept/web1'), { recursive: true, preserveTimestamps: true })
  const original = at('original')
  fs.renameSync(at('srv'), original)
  for (const folder of [m.config, m.state, m.cache]) {
    fs.rmSync(folder, { recursive: true })
    fs.mkdirSync(folder, { mode: 0o700 })
  }
  fs.mkdirSync(at('srv'))
  fake(m.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
  return { m, original: path.join(original, 'web'), source, here }
}

async function follow({ m, original, source, here }: Awaited<ReturnType<typeof lost>>, commands: string): Promise<void> {
  const result = await startProgram(m, '/bin/sh', ['-ec', here(commands)]).result
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
  const at = (name: string) => here(`/mnt/${name}`)
  sameTree(path.join(at('new'), source), original)
  sameTree(source, original)
  sameTree(path.join(at('pages'), source, 'pages'), path.join(original, 'pages'))
  assert.deepEqual(fs.readFileSync(at('index.html')), fs.readFileSync(path.join(original, 'index.html')))
  assert.equal(fs.readFileSync(at('app.sql'), 'utf8'), 'a dump\n')
}

for (const tool of restics()) {
  test(`the page's commands bring everything back with restic ${tool.version} alone`, async (t) => {
    await follow(await lost(t, tool), section('## Without kedge'))
  })

  test(`the page's commands bring everything back with kedge and restic ${tool.version}`, async (t) => {
    const place = await lost(t, tool)
    const [copied, anew] = [section('### The target'), section('#### Without such a copy')]
    assert.ok(copied.endsWith(anew))
    const rest = ['### Look before you restore', '### Restore', '### Afterwards'].map(section).join('')
    await follow(place, tool.version === '0.18.0' ? `${anew}${rest}` : `${copied.slice(0, -anew.length)}${rest}`)
  })
}
