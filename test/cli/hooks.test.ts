// Hooks: executables that a run calls, whatever happens to it.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { RunRow } from '../../lib/rows.ts'
import { done, fake, kedge, type Machine, machine, newTarget, restic, sameTree, start, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

/** A target with a store and a source, and a file to which hooks write. */
async function house(t: TestContext, env: Record<string, string> = {}) {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'some bytes\n')
  const web1 = newTarget(m, 'web1', { paths: [source], env })
  await makeStore(m, web1)
  const heard = path.join(m.dir, 'heard')
  const hook = (where: string, event: string, script: string) => fake(path.join(where, 'hooks'), event, script)
  const lines = () => (fs.existsSync(heard) ? fs.readFileSync(heard, 'utf8').replace(/\n$/, '').split('\n') : [])
  /** Hooks that write their name and the state of the run. */
  const tell = (where: string, ...events: string[]) => {
    const name = where === m.config ? 'house' : 'own'
    for (const event of events) hook(where, event, `echo "${name} $KEDGE_HOOK $KEDGE_RUN_STATE $KEDGE_RUN_CLASS" >>${heard}`)
  }
  return { m, source, web1, heard, hook, lines, tell }
}

const runs = (m: Machine) =>
  fs
    .readFileSync(path.join(m.state, 'web1', 'runs.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RunRow)

test('hooks of the house and of the target run around a backup, afterwards in the opposite order, and the backup restores the same bytes', async (t) => {
  const { m, source, web1, lines, tell } = await house(t)
  for (const where of [m.config, web1.dir])
    tell(where, 'before-backup', 'after-backup', 'on-success', 'on-failure', 'finally', 'before-prune')
  await done(m, ['backup', 'web1'])
  assert.deepEqual(lines(), [
    'house before-backup running ',
    'own before-backup running ',
    'own after-backup success ',
    'house after-backup success ',
    'own on-success success ',
    'house on-success success ',
    'own finally success ',
    'house finally success ',
  ])
  const to = path.join(m.dir, 'to')
  await done(m, ['restore', 'web1', 'latest', '--to', to])
  sameTree(source, path.join(to, source))
  assert.equal(lines().length, 8, 'a restore calls no hook')
})

test("a hook reads the run in its environment and the record on its stdin, and none of the store's secrets but those of HOOK_SECRETS", async (t) => {
  const { m, web1, hook } = await house(t, { HOOK_SECRETS: 'DB_PASSWORD' })
  fs.chmodSync(path.join(web1.dir, 'secret.env'), 0o600)
  fs.appendFileSync(path.join(web1.dir, 'secret.env'), "DB_PASSWORD='for the hooks'\n")
  const [env, record] = [path.join(m.dir, 'env'), path.join(m.dir, 'record')]
  hook(web1.dir, 'after-backup', `env >${env}; cat >${record}; echo a line of the hook; echo 'and: for the hooks'`)
  await done(m, ['backup', 'web1'], { env: { STRAY: 'x', RESTIC_REPOSITORY: '/stray' } })
  const seen = Object.fromEntries(
    fs
      .readFileSync(env, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(/=(.*)/s)),
  )
  const [run] = runs(m)
  assert.ok(run)
  assert.equal(seen.KEDGE_TARGET, 'web1')
  assert.equal(seen.KEDGE_VERB, 'backup')
  assert.equal(seen.KEDGE_RUN_ID, run.run)
  assert.equal(seen.KEDGE_RUN_START, run.start)
  assert.equal(seen.KEDGE_RUN_STATE, 'success')
  assert.equal(seen.KEDGE_RUN_STATUS, '0')
  assert.equal(seen.KEDGE_RUN_CLASS, '')
  assert.equal(seen.DB_PASSWORD, 'for the hooks')
  for (const key of ['RESTIC_PASSWORD', 'RESTIC_REPOSITORY', 'STRAY']) assert.equal(seen[key], undefined)
  const given = JSON.parse(fs.readFileSync(record, 'utf8')) as RunRow
  assert.deepEqual(given.results, run.results)
  const log = fs.readFileSync(seen.KEDGE_RUN_LOG ?? '', 'utf8')
  assert.match(log, /after-backup: a line of the hook/)
  assert.match(log, /after-backup: and: \*\*\*/)
})

test('a before-hook that fails stops the run with 1 before anything is written; the hooks after it run', async (t) => {
  const { m, web1, hook, lines, tell } = await house(t)
  tell(web1.dir, 'after-backup', 'on-success', 'on-failure', 'finally')
  hook(web1.dir, 'before-backup', 'echo first; echo the import runs >&2; exit 5')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 1)
  assert.match(result.stderr, /hook '.*before-backup' failed: status 5: the import runs\n {2}hint: the run was not started/)
  assert.deepEqual(lines(), ['own after-backup failed tool', 'own on-failure failed tool', 'own finally failed tool'])
  assert.equal((await restic(m, web1, ['snapshots', '--json'])).stdout.trim(), '[]')
})

test('a before-hook that exits 77 skips the run with 75, on record and in no hook of success or failure', async (t) => {
  const { m, web1, hook, lines, tell } = await house(t)
  tell(web1.dir, 'after-backup', 'on-success', 'on-warning', 'on-failure', 'finally')
  hook(m.config, 'before-backup', 'exit 77')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 75)
  assert.match(result.stderr, /hook '.*before-backup' says not now/)
  assert.deepEqual(lines(), ['own after-backup skipped skipped', 'own finally skipped skipped'])
  const [run] = runs(m)
  assert.equal(run?.state, 'skipped')
  assert.equal(run?.status, 75)
  assert.equal((await restic(m, web1, ['snapshots', '--json'])).stdout.trim(), '[]')
})

test('after- and finally-hooks run when the store cannot be opened, when the secrets are gone, and when the lock is held', async (t) => {
  const { m, source, web1, hook, heard, lines, tell } = await house(t)
  tell(web1.dir, 'after-backup', 'on-failure', 'finally')
  const secret = path.join(web1.dir, 'secret.env')
  fs.renameSync(secret, `${secret}.away`)
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 12)
  assert.deepEqual(lines(), ['own after-backup failed auth', 'own on-failure failed auth', 'own finally failed auth'])
  fs.renameSync(`${secret}.away`, secret)
  fs.rmSync(heard)
  fs.renameSync(web1.repository, `${web1.repository}.away`)
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 10)
  assert.deepEqual(lines(), ['own after-backup failed missing', 'own on-failure failed missing', 'own finally failed missing'])
  fs.renameSync(`${web1.repository}.away`, web1.repository)
  fs.rmSync(heard)
  const [stop, begun] = [path.join(m.dir, 'stop'), path.join(m.dir, 'begun')]
  hook(web1.dir, 'before-backup', `[ -e ${begun} ] && exit 9; touch ${begun}; until [ -e ${stop} ]; do sleep 0.1; done`)
  const first = start(m, ['backup', 'web1'])
  while (!fs.existsSync(begun)) await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 11)
  assert.deepEqual(lines(), ['own after-backup failed locked', 'own on-failure failed locked', 'own finally failed locked'])
  fs.writeFileSync(stop, '')
  assert.equal((await first.result).status, 0)
  const status = await done(m, ['status', 'web1', '--json'])
  assert.equal((status.rows[0] as { state: string }).state, 'ok', 'what was locked out by a backup that ended well is no failure')
  const to = path.join(m.dir, 'to')
  await done(m, ['restore', 'web1', 'latest', '--to', to])
  sameTree(source, path.join(to, source))
})

test('a hook that fails after the work makes the run a warning with 3, on record, and the hooks after it still run', async (t) => {
  const { m, web1, hook, lines, tell } = await house(t)
  tell(web1.dir, 'on-warning', 'on-success', 'finally')
  hook(web1.dir, 'after-backup', 'echo the service did not start >&2; exit 4')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 3)
  assert.match(result.stderr, /warning: hook '.*after-backup' failed: status 4: the service did not start/)
  assert.deepEqual(lines(), ['own on-warning warning partial', 'own finally warning partial'])
  const [run] = runs(m)
  assert.equal(run?.state, 'warning')
  assert.match(run?.warnings?.[0] ?? '', /after-backup' failed: status 4/)
})

test('a hook that hangs is ended with its children after HOOK_TIMEOUT: 124', async (t) => {
  const { m, web1, hook, lines, tell } = await house(t, { HOOK_TIMEOUT: '1s' })
  tell(web1.dir, 'finally')
  const pid = path.join(m.dir, 'pid')
  hook(web1.dir, 'before-backup', `sleep 300 & echo $! >${pid}; wait`)
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 124)
  assert.match(result.stderr, /hook '.*before-backup' did not end within 1 s/)
  assert.deepEqual(lines(), ['own finally failed timeout'])
  const { stdout } = await startProgram(m, 'ps', ['-o', 'stat=', '-p', fs.readFileSync(pid, 'utf8').trim()]).result
  assert.match(stdout.trim(), /^(Z.*)?$/, 'its child is gone, or waits for its parent')
})

test('a cancelled run calls its hooks, and so does the next run for one that was killed', async (t) => {
  const { m, web1, hook, heard, lines, tell } = await house(t)
  tell(web1.dir, 'after-backup', 'on-failure', 'on-success', 'finally')
  const begun = path.join(m.dir, 'begun')
  hook(web1.dir, 'before-backup', `[ -e ${begun} ] && exit 0; touch ${begun}; sleep 300`)
  const cut = async (signal: NodeJS.Signals) => {
    fs.rmSync(begun, { force: true })
    const run = start(m, ['backup', 'web1'])
    while (!fs.existsSync(begun)) await new Promise((resolve) => setTimeout(resolve, 50))
    run.child.kill(signal)
    return { ...(await run.result), pid: run.child.pid }
  }
  assert.equal((await cut('SIGTERM')).status, 143)
  assert.deepEqual(lines(), ['own after-backup cancelled ', 'own on-failure cancelled ', 'own finally cancelled '])
  fs.rmSync(heard)
  const killed = await cut('SIGKILL')
  assert.deepEqual(lines(), [])
  // As if it had been killed between the writing of a file and its renaming.
  const half = path.join(m.state, 'web1', `metrics.json.${killed.pid}.new`)
  fs.writeFileSync(half, '{')
  await done(m, ['backup', 'web1', '--wait', '30s'])
  assert.deepEqual(lines(), [
    'own after-backup crashed tool',
    'own on-failure crashed tool',
    'own finally crashed tool',
    'own after-backup success ',
    'own on-success success ',
    'own finally success ',
  ])
  assert.ok(!fs.existsSync(half))
})

test('hooks that cannot be trusted or are no hooks are faults of the target, all told at once with 2', async (t) => {
  const { m, web1, hook } = await house(t)
  hook(web1.dir, 'before-bakup', 'true')
  fs.chmodSync(hook(web1.dir, 'after-backup', 'true'), 0o777)
  fs.chmodSync(hook(m.config, 'finally', 'true'), 0o644)
  fs.mkdirSync(path.join(web1.dir, 'hooks', 'on-failure'))
  hook(web1.dir, 'on-success~', 'exit 1')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 2)
  assert.match(result.stderr, /before-bakup: no such hook, did you mean before-backup\?/)
  assert.match(result.stderr, /after-backup: everybody may write it/)
  assert.match(result.stderr, /finally: it is not an executable file/)
  assert.match(result.stderr, /on-failure: it is not an executable file/)
  assert.doesNotMatch(result.stderr, /on-success/)
  fs.rmSync(path.join(web1.dir, 'hooks'), { recursive: true })
  fs.chmodSync(path.join(m.config, 'hooks/finally'), 0o755)
  await done(m, ['backup', 'web1'])
  fs.chmodSync(path.join(m.config, 'hooks'), 0o777)
  const open = await kedge(m, ['backup', 'web1'])
  assert.equal(open.status, 2)
  assert.match(open.stderr, /hooks: everybody may write it/)
})

test('no shell reads the path of a hook', async (t) => {
  const { m, web1, heard, lines } = await house(t)
  const config = path.join(m.dir, 'a $(touch evil) `touch evil`; touch evil')
  fs.cpSync(m.config, config, { recursive: true })
  fake(path.join(config, 'targets/web1/hooks'), 'before-backup', `echo called >${heard}`)
  await done(m, ['backup', 'web1'], { env: { KEDGE_CONFIG_DIR: config } })
  assert.deepEqual(lines(), ['called'])
  assert.ok(!fs.existsSync(path.join(m.dir, 'evil')) && !fs.existsSync('/evil') && web1)
})

test('--explain prints the hooks where they would run, and neither it nor -n calls one', async (t) => {
  const { m, web1, lines, tell } = await house(t)
  tell(web1.dir, 'before-backup', 'after-backup', 'finally')
  await done(m, ['backup', 'web1', '-n'])
  const { lines: printed } = await done(m, ['backup', 'web1', '--explain'])
  assert.deepEqual(lines(), [])
  const at = (part: string) => printed.findIndex((line) => line.includes(part))
  assert.ok(at('/hooks/before-backup') > 0 && at('/hooks/before-backup') < at('restic backup'))
  assert.ok(at('restic backup') < at('/hooks/after-backup') && at('/hooks/after-backup') < at('/hooks/finally'))
})

test('SKIP_ON_BATTERY=yes skips a backup on battery with 75, and runs it on mains', async (t) => {
  if (fs.existsSync('/sys/class/power_supply') && fs.readdirSync('/sys/class/power_supply').length > 0)
    return t.skip('this machine shows a power supply of its own')
  const { m } = await house(t, { SKIP_ON_BATTERY: 'yes' })
  fake(m.bin, 'apm', '[ "$*" = -a ] && echo 0')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 75)
  assert.match(result.stderr, /the machine runs on its battery/)
  assert.equal(runs(m)[0]?.state, 'skipped')
  fake(m.bin, 'apm', '[ "$*" = -a ] && echo 1')
  await done(m, ['backup', 'web1'])
})

test('whatever the message of a failure holds, the hooks are called, the run is on record, and the lock is free', async (t) => {
  const nul = String.raw`printf 'bad \000 news' >&2; exit 1`
  const long = `i=0; while [ $i -lt 4000 ]; do echo "a line that is no setting, number $i"; i=$((i+1)); done`
  for (const command of [nul, long]) {
    const { m, web1, heard, lines, tell } = await house(t, { SECRET: 'command', SECRET_COMMAND: command })
    tell(web1.dir, 'after-backup', 'on-failure', 'finally')
    const result = await kedge(m, ['backup', 'web1'])
    assert.equal(result.status, command === nul ? 12 : 2)
    assert.equal(lines().length, 3)
    const [run] = runs(m)
    assert.equal(run?.state, 'failed')
    assert.ok((run?.message?.length ?? 0) <= 8000)
    fs.rmSync(heard)
    await kedge(m, ['backup', 'web1'])
    assert.equal(lines().length, 3, 'the lock was free: nothing is said to have crashed')
  }
})

test('after a signal hooks have ten seconds together, a second signal ends them at once, and the run is on record', async (t) => {
  const { m, web1, hook, lines, tell } = await house(t)
  tell(web1.dir, 'finally')
  const [begun, after] = [path.join(m.dir, 'begun'), path.join(m.dir, 'after')]
  hook(web1.dir, 'before-backup', `touch ${begun}; sleep 300`)
  hook(web1.dir, 'after-backup', `touch ${after}; sleep 300`)
  const run = start(m, ['backup', 'web1'])
  const seen = async (file: string) => {
    while (!fs.existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await seen(begun)
  run.child.kill('SIGTERM')
  await seen(after)
  run.child.kill('SIGTERM')
  const result = await run.result
  assert.equal(result.status, 143)
  assert.match(result.stderr, /hook '.*after-backup' was not finished: the run was cancelled/)
  assert.match(result.stderr, /hook '.*finally' was not finished/)
  assert.deepEqual(lines(), [])
  assert.equal(runs(m)[0]?.state, 'cancelled')
})

test('a run that does not get the lock leaves what is shown of the one that has it', async (t) => {
  const { m, web1, hook, tell } = await house(t)
  tell(web1.dir, 'after-prune', 'finally')
  const [stop, begun] = [path.join(m.dir, 'stop'), path.join(m.dir, 'begun')]
  hook(web1.dir, 'before-backup', `touch ${begun}; until [ -e ${stop} ]; do sleep 0.1; done`)
  const first = start(m, ['backup', 'web1'])
  while (!fs.existsSync(begun)) await new Promise((resolve) => setTimeout(resolve, 50))
  const shown = () => JSON.parse(fs.readFileSync(path.join(m.state, '.running/web1@write.json'), 'utf8')) as { pid: number; verb: string }
  const before = shown()
  assert.equal((await kedge(m, ['prune', 'web1'])).status, 11)
  assert.deepEqual([shown().pid, shown().verb], [before.pid, 'backup'])
  fs.writeFileSync(stop, '')
  assert.equal((await first.result).status, 0)
})

test('a hook or a stream of another user is a fault, and so is a folder of hooks that is his', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can give files away')
  const { m, web1, hook } = await house(t)
  const stream = fake(path.join(web1.dir, 'streams'), 'who', 'id -un')
  const files = [hook(web1.dir, 'finally', 'true'), stream, path.join(web1.dir, 'hooks')]
  for (const file of files) {
    fs.chownSync(file, 65534, 65534)
    const result = await kedge(m, ['backup', 'web1'])
    assert.equal(result.status, 2)
    assert.ok(result.stderr.includes(`${file}: it belongs to user 65534`), result.stderr)
    fs.chownSync(file, 0, 0)
  }
  await done(m, ['backup', 'web1'])
})

test('a hook that is a link to nowhere is a fault of its target alone, and so is a folder of hooks', async (t) => {
  const { m, web1, source } = await house(t)
  newTarget(m, 'web2', { paths: [source] })
  fs.mkdirSync(path.join(web1.dir, 'hooks'))
  for (const link of ['hooks/finally', 'hooks']) {
    fs.rmSync(path.join(web1.dir, link), { recursive: true, force: true })
    fs.symlinkSync('/nowhere', path.join(web1.dir, link))
    const result = await kedge(m, ['status'])
    assert.equal(result.status, 2)
    assert.match(result.stderr, /web1/)
    assert.match(result.stdout, /^web2/m)
    const metrics = await done(m, ['stats', '--prometheus'])
    assert.match(metrics.stdout, /kedge_config_error\{target="web1"\} 1/)
    assert.match(metrics.stdout, /kedge_config_error\{target="web2"\} 0/)
  }
})

test('what a hook prints without end does not fill the log', async (t) => {
  const { m, web1, hook } = await house(t)
  hook(web1.dir, 'before-backup', 'yes a line of the hook | head -n 200000')
  await done(m, ['backup', 'web1'])
  const [run] = runs(m)
  const { size } = fs.statSync(path.join(m.state, 'web1/logs', `${run?.run}.log`))
  assert.ok(size > 1 << 20 && size < 5 << 20, `${size} bytes`)
})

test('the metrics know of a hook that was changed after the last run', async (t) => {
  const { m, web1, hook } = await house(t)
  const file = hook(web1.dir, 'finally', 'true')
  await done(m, ['backup', 'web1'])
  assert.match((await done(m, ['stats', '--prometheus'])).stdout, /kedge_config_error\{target="web1"\} 0/)
  await new Promise((resolve) => setTimeout(resolve, 20))
  fs.chmodSync(file, 0o644)
  assert.match((await done(m, ['stats', '--prometheus'])).stdout, /kedge_config_error\{target="web1"\} 1/)
})
