// What a scheduler starts, and when: the clock is an argument.
import assert from 'node:assert/strict'
import childProcess, { type ChildProcess } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import * as fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Context, Target } from '../lib/contract.ts'
import { Failure } from '../lib/failure.ts'
import { keys } from '../lib/keys.ts'
import { createAgenda } from '../lib/scheduler/agenda.ts'
import { readAttempts } from '../lib/scheduler/attempts.ts'
import { createComplaints } from '../lib/scheduler/complaints.ts'
import { createCrew } from '../lib/scheduler/crew.ts'
import { choose, digestDuties, dutiesOf, isLost, latestOf, pauseUntil, type Timed, timed, upcoming } from '../lib/scheduler/duty.ts'
import { createRoster } from '../lib/scheduler/roster.ts'
import { limits } from '../lib/scheduler/teller.ts'
import { scratch } from './harness.ts'

const at = (text: string) => Date.parse(text)
const iso = (time: number | undefined) => (time === undefined ? undefined : new Date(time).toISOString().replace(':00.000Z', 'Z'))
const target = (name: string, env: Record<string, string>) =>
  ({ name, env: { TZ: 'UTC', ...env }, paths: [], streams: [] }) as unknown as Target
const dutyOf = (expression: string, env: Record<string, string> = {}) => {
  const [duty] = dutiesOf(target('web1', { SCHEDULE_BACKUP: expression, ...env }))
  assert.ok(duty)
  return duty
}

test('a duty is next due at the first due time after the last attempt: of several missed ones one is made up for', async () => {
  const cases: [what: string, expression: string, since: string, next: string][] = [
    ['the same night', '0 2 * * *', '2026-11-20T01:00:00Z', '2026-11-20T02:00Z'],
    ['the next night', '0 2 * * *', '2026-11-20T02:00:00Z', '2026-11-21T02:00Z'],
    ['begun a moment late', '0 2 * * *', '2026-11-20T02:00:03Z', '2026-11-21T02:00Z'],
    ['missed for a week: one', '0 2 * * *', '2026-11-13T02:00:00Z', '2026-11-14T02:00Z'],
    ['every minute', '* * * * *', '2026-11-20T02:00:30Z', '2026-11-20T02:01Z'],
  ]
  for (const [what, expression, since, next] of cases) assert.equal(iso((await timed(dutyOf(expression), at(since))).next), next, what)
})

test('the jitter shifts each due time of a target by the same', async () => {
  const duty = dutyOf('0 2 * * *', { SCHEDULE_JITTER: '1h' })
  const shift = duty.schedule.offsetSeconds * 1000
  assert.ok(shift > 0 && shift < 3_600_000)
  const first = await timed(duty, at('2026-11-20T00:00:00Z'))
  assert.equal(first.next, at('2026-11-20T02:00:00Z') + shift)
  assert.equal((await timed(duty, first.next)).next, at('2026-11-21T02:00:00Z') + shift)
  // Between the time of the expression and the shifted one it is still due.
  assert.equal((await timed(duty, at('2026-11-20T02:00:00Z'))).next, at('2026-11-20T02:00:00Z') + shift)
})

test('after the clock jumped back nothing runs twice, and a clock that was far ahead does not stop the schedule', async () => {
  const ran = at('2026-11-20T02:00:05Z')
  const duty = dutyOf('0 2 * * *')
  // Two hours back: the run of 02:00 is in the future, and counts.
  const back = at('2026-11-20T00:00:05Z')
  assert.equal(latestOf([ran], back), ran)
  assert.equal(iso((await timed(duty, ran)).next), '2026-11-21T02:00Z')
  // Ten years back: it counts no more, whoever noted it.
  const years = at('2016-11-20T00:00:05Z')
  assert.equal(latestOf([ran, undefined], years), undefined)
  assert.ok(isLost(await timed(duty, ran), years))
  assert.ok(!isLost(await timed(duty, ran), back))
  // A sound attempt beside it does.
  assert.equal(latestOf([ran, at('2016-11-19T02:00:00Z')], years), at('2016-11-19T02:00:00Z'))
  assert.equal(latestOf([], back), undefined)
})

const made = (targetName: string, verb: string, next: string): Timed => ({
  key: `${targetName} ${verb}`,
  target: targetName,
  verb,
  command: [verb, targetName],
  schedule: { expression: '0 2 * * *', zone: 'UTC', seed: targetName, offsetSeconds: 0 },
  since: 0,
  next: at(`2026-11-20T${next}:00Z`),
})

test('the longest overdue is started first, one of a target at a time, a backup before the prune of the same time', () => {
  const duties = [
    made('web1', 'check', '03:00'),
    made('web1', 'prune', '02:00'),
    made('web1', 'backup', '02:00'),
    made('db', 'backup', '02:30'),
    made('mail', 'backup', '05:00'),
  ]
  const now = at('2026-11-20T04:00:00Z')
  const next = (...busy: string[]) => choose(duties, now, new Set(busy))?.key
  assert.equal(next(), 'web1 backup')
  assert.equal(next('web1'), 'db backup')
  assert.equal(next('web1', 'db'), undefined, 'what is not due yet is not started')
  assert.equal(choose(duties, at('2026-11-20T01:00:00Z'), new Set()), undefined)
})

test('it wakes when something comes due, and looks at the clock twice a minute whatever is due', () => {
  const duties = [made('web1', 'backup', '02:00'), made('db', 'backup', '02:30')]
  assert.equal(pauseUntil(duties, at('2026-11-20T01:59:50Z')), 10_000)
  assert.equal(pauseUntil(duties, at('2026-11-20T01:00:00Z')), 30_000)
  // What is due and waits for another run does not make it spin.
  assert.equal(pauseUntil(duties, at('2026-11-20T02:10:00Z')), 30_000)
  assert.equal(pauseUntil([], 0), 30_000)
})

test('what would start in the next day is listed by time; what is overdue would start now, once', async () => {
  const now = at('2026-11-20T12:00:00Z')
  const backup = await timed(dutyOf('0 */12 * * *'), at('2026-11-18T01:00:00Z'))
  const [check] = dutiesOf(target('db', { SCHEDULE_CHECK: '30 3 * * *' }))
  assert.ok(check)
  const starts = await upcoming([backup, await timed(check, now)], now, at('2026-11-21T12:00:00Z'))
  assert.deepEqual(
    starts.map(({ at, due, duty }) => [iso(at), iso(due), duty.key]),
    [
      ['2026-11-20T12:00Z', '2026-11-18T12:00Z', 'web1 backup'],
      ['2026-11-21T00:00Z', '2026-11-21T00:00Z', 'web1 backup'],
      ['2026-11-21T03:30Z', '2026-11-21T03:30Z', 'db check'],
      ['2026-11-21T12:00Z', '2026-11-21T12:00Z', 'web1 backup'],
    ],
  )
})

test('there is one digest, of all targets, and where their times differ one for those that agree', () => {
  const wanting = { NOTIFY: 'mail', NOTIFY_ON: 'failure,digest', SCHEDULE_DIGEST: '0 7 * * *' }
  const duties = digestDuties([
    target('a', wanting),
    target('b', { ...wanting, NOTIFY_ON: 'failure' }),
    target('c', { ...wanting, NOTIFY: '' }),
    target('d', { ...wanting, SCHEDULE_DIGEST: '@weekly' }),
    target('e', wanting),
  ])
  assert.deepEqual(
    duties.map(({ command, schedule }) => [command.join(' '), schedule.expression]),
    [
      ['notify digest a e', '0 7 * * *'],
      ['notify digest d', '@weekly'],
    ],
  )
  // All of them, and whatever does not load.
  assert.deepEqual(digestDuties([target('a', wanting), target('e', wanting)])[0]?.command, ['notify', 'digest'])
})

/** A house of configuration and state for this process. */
function house(t: TestContext): { config: string; state: string; write: (name: string, text: string) => void } {
  const dir = scratch(t)
  const before = { ...process.env }
  t.after(() => {
    for (const key of ['KEDGE_CONFIG_DIR', 'KEDGE_STATE_DIR']) {
      if (before[key] === undefined) delete process.env[key]
      else process.env[key] = before[key]
    }
  })
  const [config, state] = [path.join(dir, 'etc'), path.join(dir, 'state')]
  Object.assign(process.env, { KEDGE_CONFIG_DIR: config, KEDGE_STATE_DIR: state })
  const write = (name: string, text: string) => {
    fs.mkdirSync(path.join(config, 'targets', name), { recursive: true })
    fs.writeFileSync(path.join(config, 'targets', name, 'target.env'), text, { mode: 0o600 })
  }
  return { config, state, write }
}

function heard() {
  const said: string[] = []
  const complaints = createComplaints((error, prefix) => {
    said.push(`${prefix}: ${(error as Error).message.split('\n')[0]}`)
    return error instanceof Failure ? 2 : 70
  })
  return { said, complaints }
}

test('a target is loaded again when its files changed; one that does not load is said once, and again in other words', async (t) => {
  const { write, config } = house(t)
  const { said, complaints } = heard()
  const mended: string[] = []
  const roster = createRoster(complaints, (name) => mended.push(name))
  const keys = () => roster.duties().map(({ key }) => key)
  const good = 'ENGINE=restic\nRESTIC_REPOSITORY=/srv/a\nSCHEDULE_BACKUP="0 2 * * *"\n'
  write('web1', good)
  write('bad', 'NO_SUCH_KEY=1\n')
  assert.equal(await roster.look(), true)
  assert.deepEqual(keys(), ['web1 backup'])
  assert.deepEqual(said, ["bad: target 'bad' is not valid:"])
  assert.equal(await roster.look(), false, 'nothing changed')
  write('web1', `${good}SCHEDULE_PRUNE=@weekly\n`)
  assert.equal(await roster.look(), true)
  assert.deepEqual(keys(), ['web1 backup', 'web1 prune'])
  await roster.look(true)
  assert.equal(said.length, 1, 'said once')
  write('bad', 'OTHER_KEY=1\n')
  await roster.look()
  assert.equal(said.length, 2, 'in other words')
  write('bad', good)
  await roster.look()
  assert.deepEqual([keys(), mended], [['bad backup', 'web1 backup', 'web1 prune'], ['bad']])
  assert.deepEqual([...complaints.statuses], [])
  fs.writeFileSync(path.join(config, 'defaults.env'), 'SCHEDULE_CHECK=@monthly\n', { mode: 0o600 })
  fs.rmSync(path.join(config, 'targets', 'bad'), { recursive: true })
  assert.equal(await roster.look(), true)
  assert.deepEqual(keys(), ['web1 backup', 'web1 prune', 'web1 check'])
})

test('a target that is mended by chmod alone is loaded again: a hook, a stream, a hook of the house, a list of exclusions', (t) =>
  eachBroken(t, async (file, wrong, right) => {
    const { said, complaints } = heard()
    const mended: string[] = []
    const roster = createRoster(complaints, (name) => mended.push(name))
    fs.chmodSync(file, wrong)
    await roster.look()
    assert.deepEqual([said.length, roster.broken], [1, ['web1']], file)
    assert.equal(await roster.look(), false, 'nothing changed')
    fs.chmodSync(file, right)
    assert.equal(await roster.look(), true, file)
    assert.deepEqual([mended, roster.broken], [['web1'], []], file)
  }))

async function eachBroken(t: TestContext, check: (file: string, wrong: number, right: number) => Promise<void>): Promise<void> {
  const { write, config } = house(t)
  write('web1', 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_BACKUP="0 2 * * *"\n')
  const cases: [file: string, wrong: number, right: number][] = [
    ['targets/web1/hooks/before-backup', 0o644, 0o755],
    ['targets/web1/streams/app.sql', 0o644, 0o755],
    ['targets/web1/exclude', 0o666, 0o644],
    ['hooks/finally', 0o777, 0o755],
  ]
  for (const [name, , right] of cases) {
    const file = path.join(config, name)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, '#!/bin/sh\n', { mode: right })
  }
  for (const [name, wrong, right] of cases) await check(path.join(config, name), wrong, right)
}

test('what a target had scheduled stays due while it does not load, also after a restart, and so does the digest that it asked for', async (t) => {
  const { state, write, config } = house(t)
  const { complaints } = heard()
  const good = 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_BACKUP="0 2 * * *"\nSCHEDULE_PRUNE=@weekly\nNOTIFY=mail\nNOTIFY_ON=digest\n'
  const open = async () => {
    const roster = createRoster(complaints)
    const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
    const look = async () => {
      await roster.look()
      await agenda.renew(false)
      return [...agenda.all()].map(({ command, schedule }) => `${command.join(' ')}: ${schedule.expression}`).sort()
    }
    return { look, agenda }
  }
  const first = await open()
  write('web1', good)
  const whole = await first.look()
  const duties = ['backup --wait=1h web1: 0 2 * * *', 'notify digest: 0 7 * * *', 'prune --wait=1h web1: @weekly']
  assert.deepEqual(whole, duties)
  write('web1', `${good}NO_SUCH_KEY=1\n`)
  assert.deepEqual(await first.look(), duties)
  const second = await open()
  assert.deepEqual(await second.look(), duties, 'after a restart')
  const [backup] = [...second.agenda.all()].filter(({ verb }) => verb === 'backup')
  assert.deepEqual(backup?.schedule, { expression: '0 2 * * *', zone: 'local', seed: 'web1', offsetSeconds: 0 })
  write('web2', good.replace('@weekly', '@monthly'))
  assert.equal((await second.look()).filter((line) => line.startsWith('notify')).length, 1, 'one digest')
  write('web1', good.replace('SCHEDULE_PRUNE=@weekly\n', ''))
  const left = ['backup --wait=1h web1: 0 2 * * *', 'backup --wait=1h web2: 0 2 * * *', 'notify digest: 0 7 * * *']
  assert.deepEqual(await second.look(), [...left, 'prune --wait=1h web2: @monthly'], 'what is not scheduled any more is not kept')
  for (const name of ['web1', 'web2']) fs.rmSync(path.join(config, 'targets', name), { recursive: true })
  assert.deepEqual(await second.look(), [], 'what is gone is not kept')
  // A foreign hand in the file stops nothing.
  const file = path.join(state, '.scheduler', 'since.json')
  write('web1', 'NO_SUCH_KEY=1\n')
  for (const text of ['[1]', 'null', '{"web1 backup":7,"web1 check":{"schedule":"x"},"web1 x":{"schedule":{}}}', '{']) {
    fs.writeFileSync(file, text)
    assert.deepEqual(await (await open()).look(), [], text)
  }
})

test('a run that could not be started is a row like others, and a second signal then does not kill the scheduler itself', async (t) => {
  const spawned = t.mock.method(childProcess, 'spawn', () => {
    const child = new EventEmitter() as ChildProcess // without descriptors node gives it no streams either
    setImmediate(() => child.emit('error', new Error('spawn /bin/sh EMFILE')))
    return child
  })
  syncBuiltinESMExports()
  t.after(() => {
    spawned.mock.restore()
    syncBuiltinESMExports()
  })
  const killed: number[] = []
  t.mock.method(process, 'kill', (pid: number) => killed.push(pid))
  const said: string[] = []
  const report: Context['report'] = (error, prefix) => {
    said.push(`${prefix}: ${(error as Error).message}`)
    return 1
  }
  const bell = new EventEmitter()
  const context = { report, log: (text: string) => said.push(text), detail: () => undefined } as unknown as Context
  const crew = createCrew(['kedge'], context, () => bell.emit('ring'))
  crew.start(dutyOf('@daily'))
  crew.kill()
  await once(bell, 'ring')
  assert.deepEqual(killed, [], '-0 would be the group of the caller')
  assert.deepEqual(
    crew.ended().map(({ target, status }) => [target, status]),
    [['web1', 1]],
  )
  assert.deepEqual(said, ["web1: backup: cannot start 'kedge': spawn /bin/sh EMFILE"])
})

const day = 86_400_000

test('the count begins with the last attempt, whoever made it, else when the duty was first seen, and a restart goes on from there', async (t) => {
  const { state, write } = house(t)
  const { said, complaints } = heard()
  write('web1', 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_BACKUP="0 2 * * *"\nSCHEDULE_CHECK="0 3 * * 0"\n')
  fs.mkdirSync(path.join(state, 'web1'), { recursive: true })
  const now = Date.now()
  const ran = now - 3 * day
  const last = { run: 'x', verb: 'backup', state: 'failed', status: 1, start: new Date(ran).toISOString(), seconds: 1 }
  fs.writeFileSync(path.join(state, 'web1', 'last.json'), JSON.stringify({ backup: { last, counts: {} } }))
  const open = async () => {
    const roster = createRoster(complaints)
    await roster.look()
    const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
    await agenda.renew(true)
    return { agenda, of: (key: string) => [...agenda.all()].find((duty) => duty.key === key) as Timed }
  }
  const first = await open()
  assert.equal(first.of('web1 backup').since, ran, 'a failed run is an attempt')
  const seen = first.of('web1 check').since
  assert.ok(seen >= now, 'a verb that never ran counts from when it was first seen')
  assert.ok(first.of('web1 check').next > Date.now(), 'and is not overdue since 1970')
  // A run that leaves no record (a lock, a broken configuration) is an attempt too.
  const backup = first.of('web1 backup')
  assert.equal(await first.agenda.isDue(backup, now), true)
  await first.agenda.begin(backup)
  await first.agenda.save()
  assert.ok(first.of('web1 backup').next > Date.now())
  const second = await open()
  assert.ok(second.of('web1 backup').since >= now)
  assert.equal(second.of('web1 check').since, seen, 'kept over a restart')
  assert.deepEqual(said, [])
})

test('a run by hand in the meantime is not done again', async (t) => {
  const { state, write } = house(t)
  const { complaints } = heard()
  write('web1', 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_BACKUP="0 2 * * *"\n')
  fs.mkdirSync(path.join(state, 'web1'), { recursive: true })
  const ranAt = (time: number) => {
    const last = { run: 'x', verb: 'backup', state: 'success', status: 0, start: new Date(time).toISOString(), seconds: 1 }
    fs.writeFileSync(path.join(state, 'web1', 'last.json'), JSON.stringify({ backup: { last, counts: {} } }))
  }
  const now = Date.now()
  ranAt(now - 2 * day)
  const roster = createRoster(complaints)
  await roster.look()
  const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
  await agenda.renew(true)
  const duty = choose(agenda.all(), now, new Set())
  assert.equal(duty?.key, 'web1 backup')
  ranAt(now)
  assert.equal(await agenda.isDue(duty as Timed, now), false)
  assert.equal(choose(agenda.all(), now, new Set()), undefined)
})

test('what was noted of targets and schedules that are gone is forgotten, of a target that does not load it is kept', async (t) => {
  const { state, write, config } = house(t)
  const { complaints } = heard()
  const text = 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_CHECK="0 3 * * 0"\n'
  for (const name of ['web1', 'web2', 'web3']) write(name, text)
  const roster = createRoster(complaints)
  const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
  const noted = () => Object.keys(JSON.parse(fs.readFileSync(path.join(state, '.scheduler', 'since.json'), 'utf8')))
  await roster.look()
  await agenda.renew(true)
  assert.deepEqual(noted(), ['web1 check', 'web2 check', 'web3 check'])
  write('web1', 'NO_SUCH_KEY=1\n')
  write('web3', 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_DRILL="0 3 * * 0"\n')
  fs.rmSync(path.join(config, 'targets', 'web2'), { recursive: true })
  await roster.look()
  await agenda.renew(true)
  assert.deepEqual(noted().sort(), ['web1 check', 'web3 drill'])
})

test('what was noted is kept while there is no target at all, as before its file system is mounted', async (t) => {
  const { state, write, config } = house(t)
  const { complaints } = heard()
  write('web1', 'RESTIC_REPOSITORY=/srv/a\nSCHEDULE_CHECK="0 3 * * 0"\n')
  const file = path.join(state, '.scheduler', 'since.json')
  const open = async () => {
    const roster = createRoster(complaints)
    const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
    return async () => {
      await roster.look()
      await agenda.renew(true)
      return [...agenda.all()].map(({ key }) => key)
    }
  }
  const first = await open()
  assert.deepEqual(await first(), ['web1 check'])
  const since = Date.now() - 30 * day
  const noted = JSON.parse(fs.readFileSync(file, 'utf8'))
  fs.writeFileSync(file, JSON.stringify({ 'web1 check': { ...noted['web1 check'], since } }))
  const text = fs.readFileSync(file, 'utf8')
  const targets = path.join(config, 'targets')
  fs.renameSync(targets, `${targets}-away`)
  const second = await open()
  for (const look of [first, second]) {
    assert.deepEqual(await look(), [])
    assert.equal(fs.readFileSync(file, 'utf8'), text)
  }
  fs.renameSync(`${targets}-away`, targets)
  assert.deepEqual(await second(), ['web1 check'])
  assert.equal(fs.readFileSync(file, 'utf8'), text)
})

test('who tells of a run has the time for what was left and for its own, also when it is ended', () => {
  const attempt = Number.parseInt(keys.NOTIFY_TIMEOUT.default, 10)
  assert.ok(limits.timeout > 2 * 3 * attempt, `${attempt}`)
  assert.ok(limits.grace > 2 * 10, 'from a cancel on a message has ten seconds')
})
