// Whatever dies, and whenever: no published snapshot is altered, and the next run completes.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { done, fake, kedge, type Rsync, root, rsyncs, start } from '../harness.ts'
import { bulk, processes, reached, recovers, type Scene, scene } from './crash.ts'

const [older, newer] = rsyncs() as [Rsync, Rsync]
const points = 20
const stepKill = path.join(root, 'test/engine/stepkill.cjs')

/** What a killed run leaves is given up only after some seconds: so the points are spread over machines that wait beside each other. */
const lanes = 4

/** Each lane has a scene of its own, and each point begins with it as it was. `hard`: the lane, if any, that has the hard tree. */
async function atEach(
  t: TestContext,
  rsync: Rsync,
  count: number,
  hard: number,
  point: (here: Scene, i: number) => Promise<void>,
): Promise<void> {
  const run = async (lane: number) => {
    const here = await scene(t, rsync, { easy: lane !== hard })
    for (let i = lane; i < count; i += lanes) {
      here.reset()
      await point(here, i)
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)))
}

test(`kill -9 of kedge at ${points} points of what it does to the store`, { concurrency: lanes }, async (t) => {
  const known = new Map<Scene, string[]>()
  await atEach(t, newer, points, -1, async (here, i) => {
    const steps = known.get(here) ?? (await stepsOf(here))
    known.set(here, steps)
    assert.ok(steps.length >= points, steps.join('\n'))
    const at = 1 + Math.round((i * (steps.length - 1)) / (points - 1))
    fs.rmSync(path.join(here.machine.dir, 'slow'))
    const killed = await kedge(here.machine, ['backup', 'web1'], { env: stepEnv(here, at) })
    await t.test(`before: ${steps[at - 1]?.replaceAll(here.machine.dir, '')}`, async () => {
      assert.equal(killed.signal, 'SIGKILL', killed.stderr)
      await recovers(here)
    })
  })
})

test('kill -9 of kedge while sort and sync run', { concurrency: lanes }, async (t) => {
  const tools = ['sort', 'sync']
  await atEach(t, newer, tools.length, -1, async (here, i) => {
    const tool = path.join(here.machine.bin, tools[i] ?? '')
    fs.rmSync(path.join(here.machine.dir, 'slow'))
    const begun = path.join(here.machine.dir, 'begun')
    fake(here.machine.bin, path.basename(tool), `touch ${begun}; exec sleep 60`)
    const run = start(here.machine, ['backup', 'web1'])
    while (!fs.existsSync(begun) && run.child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5))
    run.child.kill('SIGKILL')
    const killed = await run.result
    fs.rmSync(tool)
    await t.test(`while ${tools[i]} runs`, async () => {
      assert.equal(killed.signal, 'SIGKILL', killed.stderr)
      await recovers(here)
    })
  })
})

/** What a backup that nothing interrupts does to the store, in order. */
async function stepsOf(here: Scene): Promise<string[]> {
  const log = path.join(here.machine.dir, 'steps')
  fs.rmSync(log, { force: true })
  fs.rmSync(path.join(here.machine.dir, 'slow'))
  await done(here.machine, ['backup', 'web1'], { env: stepEnv(here, 0) })
  here.reset()
  return fs.readFileSync(log, 'utf8').trimEnd().split('\n')
}

const stepEnv = ({ machine, target }: Scene, at: number) => ({
  NODE_OPTIONS: `--require=${stepKill}`,
  KILL_BELOW: target.root,
  KILL_AT: String(at),
  KILL_LOG: path.join(machine.dir, 'steps'),
})

const atPoint = (i: number): number => 1 + Math.round((i * bulk * 0.6) / (points - 1))

test(`kill -9 of kedge at ${points} points of the transfer`, { concurrency: lanes }, async (t) => {
  await atEach(t, older, points, 0, async (here, i) => {
    const run = start(here.machine, ['backup', 'web1'])
    if (!(await reached(here, run, atPoint(i)))) assert.fail(`it ended before: ${JSON.stringify(await run.result)}`)
    run.child.kill('SIGKILL')
    await run.result
    await t.test(`when ${atPoint(i)} of ${bulk} names are there`, () => recovers(here))
  })
})

test(`kill -9 of rsync at ${points} points of the transfer: of all its processes, or of one`, { concurrency: lanes }, async (t) => {
  await atEach(t, newer, points, -1, async (here, i) => {
    const run = start(here.machine, ['backup', 'web1'])
    if (!(await reached(here, run, atPoint(i)))) assert.fail(`it ended before: ${JSON.stringify(await run.result)}`)
    const pids = rsyncProcesses(here)
    const victims = i % 8 < 4 ? pids : pids.slice((i % 8) % pids.length).slice(0, 1)
    for (const pid of victims) kill9(pid)
    const result = await run.result
    await t.test(`of ${victims.length} of ${pids.length} when ${atPoint(i)} of ${bulk} names are there`, async () => {
      assert.notEqual(victims.length, 0)
      assert.notEqual(result.status, 0, 'RETRIES is for a link that is cut')
      await recovers(here)
    })
  })
})

/** One that goes with another that was killed may be gone. */
function kill9(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** In the order of their pids: the one that kedge started, its children. */
function rsyncProcesses({ machine }: Scene): number[] {
  return processes(machine)
    .filter((line) => /^\s*\d+ +\S+ +(\S*\/)?rsync .*--link-dest/.test(line))
    .map((line) => Number.parseInt(line, 10))
}
