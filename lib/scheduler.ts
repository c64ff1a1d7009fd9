// A daemon that starts what the targets have scheduled, for machines without systemd's timers and for containers. It imports no command:
// each run is a kedge of its own, so that what one of them does reaches neither the scheduler nor the next.
import { join } from 'node:path'
import type { Context, Rows } from './contract.ts'
import { Failure, statusOf, worst } from './failure.ts'
import { holders, type Lock, take } from './lock.ts'
import { stateDir } from './paths.ts'
import { type Agenda, createAgenda } from './scheduler/agenda.ts'
import { readAttempts, schedulerDir } from './scheduler/attempts.ts'
import { createComplaints } from './scheduler/complaints.ts'
import { createCrew } from './scheduler/crew.ts'
import { choose, labelOf, longestPause, pauseUntil, upcoming } from './scheduler/duty.ts'
import { createRoster, type Roster } from './scheduler/roster.ts'
import { createTeller } from './scheduler/teller.ts'
import { kedgeCommand } from './self.ts'
import { quote, shown } from './shell.ts'

export type Options = {
  /** How many runs at a time. */
  jobs: number
  /** What is due now, and no more. */
  once: boolean
}

/** Done, done in part, not now: a run that ended so has written its record, or has nothing to tell. */
const endsWell: readonly number[] = [0, statusOf.partial, statusOf.skipped]
/** Milliseconds between looks at the targets' files. */
const lookEvery = 5000
const ahead = 86_400_000

export async function* scheduler(options: Options, context: Context): AsyncGenerator<Rows, number> {
  if (options.jobs < 1) throw new Failure('misuse', `option '--jobs' takes a number from 1: '${options.jobs}'`)
  if (context.mode !== 'act') return yield* preview(options, context)
  const lock = await takeLock()
  try {
    return yield* serve(options, context)
  } finally {
    await lock.release()
  }
}

async function takeLock(): Promise<Lock> {
  const dir = join(schedulerDir(), 'lock')
  try {
    return await take(dir, 'scheduler', { run: `scheduler-${process.pid}`, verb: 'scheduler' })
  } catch (error) {
    if (!(error instanceof Failure) || error.class !== 'locked') throw error
    const [found] = await holders(dir)
    const who = found?.holder ? `pid ${found.holder.pid} on host ${found.holder.host}, since ${found.holder.at}` : 'unknown'
    throw new Failure('locked', `another scheduler works on the state in '${stateDir('')}': ${who}`, {
      hint: 'end that one first; one of its own for other targets needs a KEDGE_STATE_DIR of its own',
      cause: error,
    })
  }
}

async function* serve({ jobs, once }: Options, context: Context): AsyncGenerator<Rows, number> {
  const bell = createBell()
  const kedge = await kedgeCommand()
  const teller = createTeller(kedge, context, bell.ring)
  const crew = createCrew(kedge, context, (duty, status) => {
    if (!endsWell.includes(status)) teller.tell(duty)
    bell.ring()
  })
  const complaints = createComplaints(context.report)
  const roster = createRoster(complaints, (name) => context.log(`kedge: ${name} loads again`))
  const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
  const statuses: number[] = []
  const begin = Date.now()
  let reload = true
  let looked = 0
  context.signal.addEventListener('abort', bell.ring)
  context.onSignal?.((signal) => {
    if (signal === 'SIGHUP') reload = true
    else if (context.signal.aborted) {
      // The second one.
      crew.kill()
      teller.kill()
    }
    bell.ring()
  })
  try {
    while (!context.signal.aborted) {
      if (reload || performance.now() - looked > lookEvery) {
        const changed = await roster.look(reload)
        if (once && roster.names.length === 0) throw noTarget()
        await agenda.renew(changed || reload)
        if (reload && !once) context.log(`kedge: scheduler: ${sizeOf(roster, agenda)}`)
        reload = false
        looked = performance.now()
      }
      const until = once ? begin : Date.now()
      await agenda.mend()
      while (crew.busy.size < jobs && !context.signal.aborted) {
        const duty = choose(agenda.all(), until, crew.busy)
        if (!duty) break
        // Somebody may have run it meanwhile.
        if (!(await agenda.isDue(duty, until))) continue
        await agenda.begin(duty)
        context.detail(`kedge: ${labelOf(duty)} starts, due at ${new Date(duty.next).toISOString()}`)
        crew.start(duty)
        await agenda.save()
      }
      for (const row of crew.ended()) {
        if (once) statuses.push(row.status)
        yield row
      }
      if (once && crew.busy.size === 0 && !teller.busy && !choose(agenda.all(), until, crew.busy)) break
      await bell.wait(once ? longestPause : pauseUntil(agenda.all(), Date.now()))
    }
  } finally {
    if (crew.busy.size > 0) context.log(`kedge: scheduler: ending ${[...crew.busy].map((name) => name || 'the digest').join(', ')}`)
    teller.end()
    crew.end()
    while (crew.busy.size > 0 || teller.busy) await bell.wait(longestPause)
  }
  yield crew.ended()
  if (!once) return 0
  context.signal.throwIfAborted()
  return worst([...statuses, ...complaints.statuses])
}

const noTarget = () => new Failure('misuse', 'there is no target', { hint: 'kedge new NAME makes one' })

function sizeOf({ names, broken }: Roster, agenda: Agenda): string {
  const all = names.length
  const targets = broken.length === 0 ? `${all} target${all === 1 ? '' : 's'}` : `${all - broken.length} of ${all} targets load`
  const duties = [...agenda.all()].length
  return `${targets}, ${duties === 0 ? 'nothing is scheduled' : `${duties} schedule${duties === 1 ? '' : 's'}`}`
}

/** What would start in the next 24 hours, or with --once now: as rows, or as lines for at(1), which POSIX has. */
async function* preview({ once }: Options, context: Context): AsyncGenerator<Rows, number> {
  const complaints = createComplaints(context.report)
  const roster = createRoster(complaints)
  const agenda = createAgenda(roster, await readAttempts(complaints), complaints)
  await roster.look()
  if (roster.names.length === 0) throw noTarget()
  await agenda.renew(true, false)
  const now = Date.now()
  for (const { at, due, duty } of await upcoming(agenda.all(), now, once ? now : now + ahead)) {
    const [time, command] = [new Date(at).toISOString(), shown(['kedge', ...duty.command])]
    if (context.mode === 'dry-run') yield { kind: 'upcoming', time, target: duty.target, verb: duty.verb, due: new Date(due).toISOString() }
    else yield { kind: 'command', command: once ? command : `echo ${quote(command)} | TZ=UTC0 at -t ${atTime(time)}` }
  }
  return worst(complaints.statuses)
}

/** '2026-11-21T02:00:17.000Z' -> '202611210200.17'. */
const atTime = (time: string) => time.replace(/^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+).*/, '$1$2$3$4$5.$6')

/** Wakes who waits; rung while nobody waits, it is heard by who waits next. */
function createBell(): { ring: () => void; wait: (milliseconds: number) => Promise<void> } {
  let rung = false
  let wake: () => void = () => undefined
  return {
    ring() {
      rung = true
      wake()
    },
    async wait(milliseconds) {
      if (!rung)
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, milliseconds)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      rung = false
    },
  }
}
