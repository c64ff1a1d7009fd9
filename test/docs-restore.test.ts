// docs/restore.md: its commands are run as they stand there, on a machine whose files and configuration are gone.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { cheapen } from './cheap.ts'
import { receivedByUser } from './fakesuper.ts'
import { commandsBelow } from './guide.ts'
import {
  dist,
  done,
  fake,
  growTree,
  type Machine,
  machine,
  newRsyncTarget,
  newTarget,
  type Restic,
  type Rsync,
  restics,
  rsyncs,
  sameTree,
  startProgram,
} from './harness.ts'
import { treeFacts } from './tree.ts'

const section = (heading: string) => commandsBelow('restore.md', heading)

type Lost = { m: Machine; original: string; source: string; here: (text: string) => string }

/** A machine with the files of the page, and its paths as they are on this machine. */
function filesOf(m: Machine): Omit<Lost, 'original'> {
  const at = (name: string) => path.join(m.dir, name)
  const here = (text: string) =>
    text
      .replaceAll('/etc/kedge', m.config)
      .replaceAll('/tree/srv/', `/tree${at('srv')}/`)
      .replaceAll('/tree/./srv/', `/tree/.${at('srv')}/`)
      .replace(/(?<![\w/.])\/(mnt|srv|root)\//g, (_, name: string) => `${at(name)}/`)
      .replaceAll('--store /mnt/backup', `--store ${at('mnt/backup')}`)
  const source = at('srv/web')
  for (const folder of ['srv/web/pages', 'mnt/backup', 'root/kept']) fs.mkdirSync(at(folder), { recursive: true })
  growTree(source)
  fs.writeFileSync(path.join(source, 'index.html'), '<p>here\n')
  fs.writeFileSync(path.join(source, 'pages/one.html'), '<p>one\n')
  return { m, source, here }
}

/** The disk is lost, but for the backup, the original to compare with, and what was kept elsewhere. */
function lose(files: Omit<Lost, 'original'>, dir: string): Lost {
  const { m } = files
  const at = (name: string) => path.join(m.dir, name)
  fs.cpSync(dir, at('root/kept/web1'), { recursive: true, preserveTimestamps: true })
  const original = at('original')
  fs.renameSync(at('srv'), original)
  for (const folder of [m.config, m.state, m.cache]) {
    fs.rmSync(folder, { recursive: true })
    fs.mkdirSync(folder, { mode: 0o700 })
  }
  fs.mkdirSync(at('srv'))
  fake(m.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
  return { ...files, original: path.join(original, 'web') }
}

async function lost(t: TestContext, tool: Restic): Promise<Lost> {
  const m = machine(t, tool)
  const files = filesOf(m)
  const env = { RESTIC_REPOSITORY: path.join(m.dir, 'mnt/backup/web1') }
  const scripts = { 'streams/app.sql': 'echo "a dump"' }
  const { dir, repository, password } = newTarget(m, 'web1', { paths: [files.source], env, scripts })
  await done(m, ['init', 'web1'])
  cheapen(repository, password)
  await done(m, ['backup', 'web1'])
  fs.writeFileSync(path.join(m.dir, 'root/kept/password'), `${password}\n`, { mode: 0o600 })
  return lose(files, dir)
}

async function lostWithRsync(t: TestContext, tool: Rsync): Promise<Lost & { root: string }> {
  const m = machine(t, undefined, tool)
  const files = filesOf(m)
  // Not of now: rsync by hand compares whole seconds.
  execFileSync('find', [files.source, '-exec', 'touch', '-h', '-d', '2026-01-02 03:04:05.678', '{}', '+'])
  const env = { STORE: path.join(m.dir, 'mnt/backup') }
  const { dir, root } = newRsyncTarget(m, 'web1', { paths: [files.source], env, scripts: { 'streams/app.sql': 'echo "a dump"' } })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  return { ...lose(files, dir), root }
}

async function follow({ m, original, source, here }: Lost, commands: string): Promise<void> {
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

for (const tool of rsyncs()) {
  test(`the page's commands bring everything back with rsync ${tool.version} alone`, async (t) => {
    const place = await lostWithRsync(t, tool)
    const before = treeFacts(place.root)
    await follow(place, section('### Without kedge: an rsync store'))
    sameTree(place.here('/mnt/copied'), place.original)
    assert.deepEqual(treeFacts(place.root), before)
  })

  test(`the page's commands bring everything back with kedge and rsync ${tool.version}`, async (t) => {
    const place = await lostWithRsync(t, tool)
    const anew = section('### With kedge: an rsync store')
    const copied = section('### The target').slice(0, -section('#### Without such a copy').length)
    const rest = ['### Look before you restore', '### Restore', '### Afterwards'].map(section).join('')
    await follow(place, `${tool.version === '3.2.7' ? copied : anew}${rest}`)
  })

  test(`the page's commands give owners and setuid back to what an ordinary user has saved with rsync ${tool.version}`, async (t) => {
    assert.equal(process.geteuid?.(), 0, 'this test is run as root')
    const { m, root, here, original, source } = await lostWithRsync(t, tool)
    const snapshot = fs.realpathSync(path.join(root, 'latest'))
    receivedByUser(m, { snapshot, rsync: tool })
    const file = path.join(snapshot, 'snapshot.json')
    fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), fake: true }, null, 2))
    const commands = here(section('### Owners that lie in xattrs: fake-super'))
    const result = await startProgram(m, '/bin/sh', ['-ec', commands]).result
    assert.equal(result.status, 0, result.stderr)
    sameTree(path.join(here('/mnt/new'), source), original)
  })
}
