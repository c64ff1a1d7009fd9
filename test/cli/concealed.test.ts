// Secrets are in no argument, no environment but where they belong, no output, no log and no record.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { done, fake, kedge, machine, newTarget, type Result } from '../harness.ts'
import { makeStore } from '../store.ts'

const password = `p4ss "word" 'q' $(id) \\z ünï`
const token = 'AKIA-token-1234567890'

test("the repository's password shows up nowhere, whatever is run and however it fails", async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes\n')
  const scripts = { 'streams/app.sql': 'env; ps -A -o args=' }
  const secrets = { RESTIC_PASSWORD: password, AWS_SECRET_ACCESS_KEY: token }
  const web1 = newTarget(m, 'web1', { paths: [source], secrets, scripts, env: { KEEP_LAST: '1' } })
  await makeStore(m, web1)
  // Each child's arguments and environment; what ps shows of all processes meanwhile.
  const seen = path.join(m.dir, 'seen')
  fake(m.bin, 'restic', `{ printf 'argv %s\\n' "$@"; env; ps -A -o args=; } >>'${seen}'\nexec '${m.restic.path}' "$@"`)
  newTarget(m, 'wrong', {
    paths: [source],
    secrets: { RESTIC_PASSWORD: `${password}!` },
    env: { RESTIC_REPOSITORY: web1.repository, STORE_ID: 'x' },
  })
  newTarget(m, 'away', {
    paths: [source],
    secrets: { ...secrets, RESTIC_REST_USERNAME: 'user', RESTIC_REST_PASSWORD: token },
    env: { RESTIC_REPOSITORY: 'rest:http://user@127.0.0.1:9/', STORE_ID: 'x', CONNECT_TIMEOUT: '1s' },
  })

  const results: Result[] = []
  const run = async (status: number, ...args: string[]) => {
    const result = await kedge(m, [...args, '-v'])
    assert.equal(result.status, status, `${args.join(' ')}: ${result.stderr}`)
    results.push(result)
  }
  await run(0, 'backup', 'web1')
  await run(0, 'backup', '-n', 'web1')
  await run(0, 'backup', '--explain', 'web1')
  await run(0, 'list', '--json', 'web1')
  await run(0, 'files', 'web1')
  await run(0, 'cat', 'web1', `latest:${source}/file`)
  await run(0, 'cat', 'web1', 'latest:/app.sql')
  await run(0, 'find', 'web1', 'file')
  await run(0, 'check', 'web1')
  await run(0, 'prune', 'web1')
  await run(0, 'config', 'web1', '--secrets')
  await run(0, 'recovery', 'web1')
  await run(12, 'backup', 'wrong')
  await run(13, 'backup', '--json', 'away')
  await run(13, 'list', 'away')
  await run(0, 'restore', 'web1', '--to', path.join(m.dir, 'out'))

  const recorded = fs.readFileSync(seen, 'utf8')
  for (const word of [
    'argv backup',
    'argv dump',
    'argv check',
    'argv restore',
    'RESTIC_PASSWORD_COMMAND=sh -c "cat <&3"',
    `AWS_SECRET_ACCESS_KEY=${token}`,
  ])
    assert.ok(recorded.includes(word), `the record has ${word}`)
  assert.doesNotMatch(recorded, /^RESTIC_PASSWORD=/m)
  const logs = fs.readdirSync(m.state, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  assert.ok(logs.some(({ name }) => name.endsWith('.log')) && logs.some(({ name }) => name === 'runs.ndjson'))
  const places: Record<string, string> = { 'argv and environment': recorded }
  for (const entry of logs)
    places[path.join(entry.parentPath, entry.name)] = fs.readFileSync(path.join(entry.parentPath, entry.name), 'latin1')
  results.forEach((result, i) => {
    places[`stdout ${i}`] = result.stdout
    places[`stderr ${i}`] = result.stderr
  })
  for (const [place, text] of Object.entries(places)) {
    // The beginning, which is plain ASCII: escaping or another encoding does not hide it.
    assert.ok(!text.includes('p4ss'), `the password is in ${place}`)
    if (place !== 'argv and environment') assert.ok(!text.includes(token), `the token is in ${place}`)
  }
  assert.doesNotMatch(recorded, new RegExp(`^(argv|restic|node|sh) .*${token}`, 'm'), 'the token is in no argument')
})

test('an empty or absent password is refused with 12, before restic is started', async (t) => {
  const m = machine(t)
  const started = path.join(m.dir, 'started')
  const web1 = newTarget(m, 'web1', { paths: [m.home], env: { STORE_ID: 'x' } })
  fake(m.bin, 'restic', `[ "$1" = version ] && exec '${m.restic.path}' "$@"\necho "$*" >>'${started}'; exit 1`)
  const secrets = path.join(web1.dir, 'secret.env')
  for (const text of ["RESTIC_PASSWORD=''\n", 'RESTIC_PASSWORD=\n', 'AWS_SECRET_ACCESS_KEY=x\n']) {
    fs.rmSync(secrets)
    fs.writeFileSync(secrets, text, { mode: 0o400 })
    for (const verb of ['backup', 'list', 'init', 'check']) {
      const result = await kedge(m, [verb, 'web1'], { input: 'a password on stdin\n' })
      assert.equal(result.status, 12, `${verb} ${text}: ${result.stderr}`)
      assert.match(result.stderr, /password|PASSWORD/)
    }
  }
  assert.ok(!fs.existsSync(started), 'restic was started')
})

test("a stray RESTIC_REPOSITORY in the caller's environment changes nothing", async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes\n')
  const db1 = newTarget(m, 'db1', { paths: [source] })
  const stray = newTarget(m, 'stray', { paths: [source] })
  await makeStore(m, db1)
  await makeStore(m, stray)
  const env = {
    RESTIC_REPOSITORY: stray.repository,
    RESTIC_REPOSITORY_FILE: '/nowhere',
    RESTIC_PASSWORD: stray.password,
    RESTIC_PASSWORD_COMMAND: 'touch gone-wrong',
    RESTIC_PASSWORD_FILE: '/nowhere',
    RESTIC_HOST: 'stray',
    RESTIC_CACHE_DIR: '/nowhere',
    AWS_ACCESS_KEY_ID: 'stray',
  }
  await done(m, ['backup', 'db1'], { env })
  assert.equal((await done(m, ['list', 'db1', '-q'], { env })).lines.length, 1)
  assert.equal((await done(m, ['list', 'stray', '-q', '--all'])).lines.length, 0)
  assert.ok(!fs.existsSync(path.join(m.dir, 'gone-wrong')))
  fs.writeFileSync(path.join(db1.dir, 'target.env'), 'SECRET=file\n')
  const none = await kedge(m, ['list', 'db1'], { env })
  assert.equal(none.status, 2, none.stderr)
  assert.match(none.stderr, /has no RESTIC_REPOSITORY/)
})
