// What matches nothing, names nothing or does nothing is said, and never silence.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { done, kedge, machine, newTarget } from '../harness.ts'
import { makeStore } from '../store.ts'

test('a filter that matches nothing is told of, a value that cannot match is misuse, and -n is told from the real thing', async (t) => {
  const m = machine(t)
  fs.writeFileSync(path.join(m.home, 'file'), 'saved')
  const web1 = newTarget(m, 'web1', { paths: [m.home], env: { SCHEDULE_BACKUP: '@daily' }, scripts: { 'streams/app.sql': 'echo dump' } })
  await makeStore(m, web1)
  await done(m, ['backup', 'web1'])
  const misuses: [args: string[], said: RegExp][] = [
    [['list', 'web1', '--latest', '0'], /option '--latest' takes 1 or more/],
    [['prune', 'web1', '--simulate', '0'], /option '--simulate' takes 1 or more/],
    [['find', 'web1', ''], /not a pattern: ''/],
    [['find', 'web1', '!'], /not a pattern: '!'/],
    [['restore', 'web1', '--to', path.join(m.dir, 'new'), '--include', ''], /not a pattern: ''/],
  ]
  for (const [args, said] of misuses) {
    const result = await kedge(m, args)
    assert.deepEqual([result.status, result.stdout], [2, ''], args.join(' '))
    assert.match(result.stderr, said)
  }

  const none = await done(m, ['list', 'web1', '--stream', 'nope'])
  assert.deepEqual([none.stdout, none.stderr], ['', "'web1' has no snapshot of a stream 'nope': there are 'app.sql'\n"])
  assert.equal((await done(m, ['list', 'web1', '--stream', 'app.sql'])).stderr, '')
  const adopted = await done(m, ['init', 'web1', '--adopt', '--host', 'nohost'])
  assert.match(adopted.stderr, /no snapshot in '.*' passes the filter/)
  assert.doesNotMatch((await done(m, ['init', 'web1', '--adopt', '--tag', 'kedge:web1'])).stderr, /passes the filter/)

  await done(m, ['backup', 'web1'])
  const oldest = (await done(m, ['list', 'web1', '-q'])).lines.at(-1) as string
  const fields = async (args: readonly string[]) => (await done(m, args)).lines[0]?.split('\t') ?? []
  assert.equal((await fields(['forget', '-n', 'web1', oldest]))[1], 'would forget')
  assert.equal((await fields(['hold', '-n', 'web1', oldest]))[1], 'would hold')
  assert.equal((await fields(['hold', '-n', '--release', 'web1', oldest]))[1], 'would release')
  const to = path.join(m.dir, 'back')
  assert.equal((await fields(['restore', '-n', 'web1', oldest, '--to', to])).at(-1), 'would restore')
  assert.equal((await fields(['restore', 'web1', oldest, '--to', to])).at(-1), 'restored')
  assert.equal((await fields(['forget', 'web1', oldest]))[1], 'forgotten')
})

test('init makes no repository among other files, but in an empty folder and at the root of a new disk', async (t) => {
  const m = machine(t)
  const web1 = newTarget(m, 'web1', { paths: [m.home] })
  fs.mkdirSync(web1.repository, { recursive: true })
  fs.writeFileSync(path.join(web1.repository, 'letter'), 'to somebody')
  for (const args of [
    ['init', 'web1'],
    ['init', '-n', 'web1'],
  ]) {
    const result = await kedge(m, args)
    assert.equal(result.status, 15, result.stderr)
    assert.match(result.stderr, /refusing to create a repository at '.*': the folder holds something else: letter/)
  }
  assert.deepEqual(fs.readdirSync(web1.repository), ['letter'])
  fs.rmSync(path.join(web1.repository, 'letter'))
  fs.mkdirSync(path.join(web1.repository, 'lost+found'))
  await done(m, ['init', 'web1'])
})

test('a folder among the streams is a fault of the target', async (t) => {
  const m = machine(t)
  const { dir } = newTarget(m, 'web1', { paths: [m.home], scripts: { 'streams/app.sql': 'echo dump' } })
  fs.mkdirSync(path.join(dir, 'streams', 'old'))
  const result = await kedge(m, ['config', 'web1'])
  assert.equal(result.status, 2)
  assert.match(result.stderr, /streams\/old: it is not an executable file/)
})
