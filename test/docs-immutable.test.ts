// docs/immutable.md: a client that can only add, and a keeper that prunes, with a real append-only server between them.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { PlanLine, Pruned } from '../lib/rows.ts'
import { cheapen } from './cheap.ts'
import { commandsBelow } from './guide.ts'
import {
  dist,
  done,
  envText,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  newTarget,
  type Restic,
  restics,
  sameTree,
  startProgram,
} from './harness.ts'
import { freePort } from './port.ts'
import { makeStore } from './store.ts'

const section = (heading: string) => commandsBelow('immutable.md', heading)
const snapshotsIn = (repository: string) => fs.readdirSync(path.join(repository, 'snapshots')).sort()
const passwordOf = (secrets: string) => /^RESTIC_PASSWORD=(['"]?)(.*)\1$/m.exec(secrets)?.[2] ?? ''

/** The machines of the page: they share /srv/restic and what is carried to /root by hand. */
async function place(t: TestContext, tool: Restic) {
  const [client, keeper] = [machine(t, tool), machine(t, tool)]
  const at = (name: string) => path.join(client.dir, name)
  for (const folder of ['srv/web', 'root']) fs.mkdirSync(at(folder), { recursive: true })
  const port = await freePort()
  const here = (m: Machine, text: string) =>
    text
      .replaceAll('/etc/kedge', m.config)
      .replaceAll('127.0.0.1:8000', `127.0.0.1:${port}`)
      .replace(/(?<![\w/])\/(srv|root)\//g, (_, name: string) => `${at(name)}/`)
  for (const m of [client, keeper]) fake(m.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
  const follow = async (m: Machine, commands: string) => {
    const result = await startProgram(m, '/bin/sh', ['-ec', here(m, commands)]).result
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
    return result
  }
  return { client, keeper, at, here, follow, port }
}

test('a client that can only add, and a keeper that prunes: the page works, and so does what it warns of', async (t) => {
  const { client, keeper, at, here, follow } = await place(t, restics().at(-1) as Restic)
  const repository = at('srv/restic/web1')
  growTree(at('srv/web'))
  fs.mkdirSync(at('srv/restic'))
  fs.writeFileSync(at('srv/restic/web1.login'), envText({ RCLONE_USER: 'web1', RCLONE_PASS: 'the login' }), { mode: 0o600 })
  fs.writeFileSync(at('root/web1.rest'), envText({ RESTIC_REST_USERNAME: 'web1', RESTIC_REST_PASSWORD: 'the login' }), { mode: 0o600 })
  const server = startProgram(client, '/bin/sh', ['-ec', here(client, section('### The store'))])
  await server.until(/Serving restic REST API/)

  const [make = '', refused = ''] = section('### The client').split(/(?=kedge forget)/)
  await follow(client, make)
  const secrets = fs.readFileSync(path.join(client.config, 'targets/web1/secret.env'), 'utf8')
  cheapen(repository, passwordOf(secrets))
  const [good = ''] = snapshotsIn(repository)

  const forget = await startProgram(client, '/bin/sh', ['-ec', here(client, refused)]).result
  assert.equal(forget.status, 1, forget.stderr)
  assert.match(forget.stderr, /the store does not let it delete: .*403 Forbidden\n {2}hint: .*append-only/)
  assert.deepEqual(snapshotsIn(repository), [good])
  assert.deepEqual(fs.readdirSync(path.join(repository, 'locks')), [], 'locks it may remove')

  fs.writeFileSync(at('root/web1.password'), `RESTIC_PASSWORD='${passwordOf(secrets)}'\n`, { mode: 0o600 })
  await follow(keeper, section('### The keeper'))
  assert.deepEqual(snapshotsIn(repository), [good])

  // The client's password and login in other hands, which choose the dates.
  const day = (ago: number, time: string) => `${new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10)} ${time}`
  const forge = async (time: string) => {
    const script = `eval "$(kedge backup web1 --explain | sed '/^restic backup/d')"; mkdir -p '${at('srv/forged')}'
      restic backup -q --tag kedge:web1 --time '${time}' '${at('srv/forged')}'`
    await follow(client, script)
  }
  const settings = path.join(keeper.config, 'targets/web1-keeper/target.env')
  const rules = (text: string) =>
    fs.writeFileSync(settings, `${fs.readFileSync(settings, 'utf8').replace(/^KEEP_(?!MIN).*\n/gm, '')}${text}\n`)
  const deleted = async () => {
    const { rows } = await done(keeper, ['prune', '-n', 'web1-keeper', '--json'])
    return rows.filter((row): row is PlanLine => row.kind === 'plan' && row.action === 'delete').map(({ id }) => id)
  }
  for (let i = 0; i < 3; i++) await forge(day(0, new Date().toISOString().slice(11, 19)))
  assert.deepEqual(await deleted(), [], 'KEEP_WITHIN keeps all')
  rules('KEEP_LAST=3')
  assert.deepEqual(await deleted(), [good], 'what the page warns of')
  // The oldest of all stays as long as there are fewer days than that.
  await forge(day(2, '23:59:00'))
  rules('KEEP_DAILY=7')
  assert.ok((await deleted()).includes(good), 'what the page warns of')

  rules('KEEP_WITHIN=60d')
  await forge(day(-100, '12:00:00'))
  const jump = await kedge(keeper, ['prune', 'web1-keeper'])
  assert.equal(jump.status, 15, jump.stderr)
  assert.match(jump.stderr, /a snapshot is from the future/)
  assert.equal(snapshotsIn(repository).length, 6)
  const future = (await done(keeper, ['list', 'web1-keeper', '-q'])).lines[0] as string
  await done(keeper, ['forget', 'web1-keeper', future, '--force=newest'])

  rules('KEEP_LAST=1\nPRUNE_MAX_DELETE=2')
  fs.writeFileSync(settings, fs.readFileSync(settings, 'utf8').replace('PRUNE_MAX_DELETE=5\n', ''))
  await done(keeper, ['hold', 'web1-keeper', good])
  const { rows } = await done(keeper, ['prune', 'web1-keeper', '--json'])
  const pruned = rows.find((row): row is Pruned => row.kind === 'pruned')
  assert.deepEqual([pruned?.deleted, pruned?.later], [2, 1])
  const held = (await done(keeper, ['list', 'web1-keeper', '-q'])).lines.at(-1) as string
  await done(keeper, ['restore', 'web1-keeper', held, '--to', at('back'), '--verify'])
  sameTree(path.join(at('back'), at('srv/web')), at('srv/web'))
  await done(keeper, ['check', 'web1-keeper', '--read-data'])
  await done(client, ['backup', 'web1'])
  server.child.kill('SIGTERM')
  await server.result
})

for (const tool of restics()) {
  test(`restic ${tool.version}: prune and forget on an append-only store are told as that, at once, and leave no lock`, async (t) => {
    const { client, at, port } = await place(t, tool)
    const plain = newTarget(client, 'plain', { paths: [at('srv/web')], env: { RESTIC_REPOSITORY: at('store') } })
    fs.writeFileSync(at('srv/web/file'), 'one')
    await makeStore(client, plain)
    const far = newTarget(client, 'far', {
      env: { RESTIC_REPOSITORY: `rest:http://127.0.0.1:${port}/`, SNAPSHOTS_OF: 'plain', KEEP_LAST: '1' },
      secrets: { RESTIC_PASSWORD: plain.password },
      paths: [at('srv/web')],
    })
    const pin = /^STORE_ID=.*$/m.exec(fs.readFileSync(path.join(plain.dir, 'target.env'), 'utf8'))?.[0]
    fs.appendFileSync(path.join(far.dir, 'target.env'), `${pin}\n`)
    for (let i = 0; i < 2; i++) await done(client, ['backup', 'plain'])
    const server = startProgram(client, 'rclone', ['serve', 'restic', '--append-only', '--addr', `127.0.0.1:${port}`, at('store')])
    await server.until(/Serving restic REST API/)
    const before = snapshotsIn(at('store'))
    const [, oldest = ''] = (await done(client, ['list', 'far', '-q'])).lines
    for (const args of [
      ['prune', 'far'],
      ['forget', 'far', oldest],
    ]) {
      const result = await kedge(client, args, { timeout: 30 })
      assert.equal(result.status, 1, result.stderr)
      assert.match(result.stderr, /cannot delete 1 snapshots from 'rest:.*': the store does not let it delete: .*403 Forbidden/)
      assert.deepEqual(snapshotsIn(at('store')), before)
      assert.deepEqual(fs.readdirSync(path.join(at('store'), 'locks')), [])
    }
    server.child.kill('SIGTERM')
    await server.result
  })
}
