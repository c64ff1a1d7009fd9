// Schedules at work: what runs when, and the timers, crontab lines and daemon that start it.
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Context, Rows } from './contract.ts'
import { callerVar } from './env.ts'
import { Failure, statusOf, worst } from './failure.ts'
import type { FileRow } from './rows/house.ts'
import type { CommandLine, Text } from './rows.ts'
import { kedgeCommand } from './self.ts'
import { quote, shown } from './shell.ts'
import { exists } from './source/paths.ts'
import { checkName } from './target.ts'
import { installCrontab, leaveTo, removeCrontab } from './timer/crontab.ts'
import type { Step } from './timer/files.ts'
import { scheduled, startersOf, strays } from './timer/list.ts'
import { detect, isRoot, toolPath, type Way, wayOf } from './timer/machine.ts'
import { forAll, installDaemon, removeDaemon } from './timer/rcd.ts'
import { systemctl } from './timer/systemctl.ts'
import { carryOut, ownPlaces, type Plan, planNothing, planSystemd, surroundings } from './timer/systemd.ts'
import type { Owner } from './timer/units.ts'
import { type House, readHouse } from './timer/wanted.ts'

/** A row for each verb that is scheduled. */
export async function* list(by: string | undefined, names: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  if (by !== undefined) throw new Failure('misuse', "option '--by' goes with install and remove")
  if (context.mode === 'explain') {
    yield line(`${shown(systemctl(['list-timers', '--all']))} 'kedge-*'; crontab -l`)
    return 0
  }
  const house = await readHouse(names, context)
  const starters = await startersOf(context)
  yield* scheduled(house, starters, new Date())
  for (const name of names.length === 0 ? strays(house, starters) : [])
    context.log(`warning: ${name} is started, and no target schedules it: kedge schedule install takes it away`)
  return worst(house.statuses)
}

/** Has what is scheduled started by systemd, cron or the daemon. Returns 3 where a part of it cannot be. */
export async function* install(by: string | undefined, names: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  const way = by === undefined ? detect() : wayOf(by)
  if (way === 'rc.d') return yield* installDaemon(names, context)
  const house = await readHouse(names, context)
  const whole = names.length === 0
  const refused = yield* way === 'crontab' ? byCrontab(house, whole, context) : bySystemd(house, whole, context)
  return worst([...house.statuses, ...(refused ? [statusOf.partial] : [])])
}

/** What the one starts the other does no more: nothing is started twice. */
async function* byCrontab(house: House, whole: boolean, context: Context): AsyncGenerator<Rows, boolean> {
  const how = { command: await kedgeCommand(), env: { PATH: toolPath(), ...surroundings() } }
  const { started, refused } = yield* installCrontab(house, whole, how, context)
  const units = new Set(started.map(({ target, verb }) => `${verb} ${target}`))
  yield* show(await planNothing((owner) => owner !== undefined && units.has(`${owner.verb} ${owner.target}`)), context)
  return refused
}

async function* bySystemd(house: House, whole: boolean, context: Context): AsyncGenerator<Rows, boolean> {
  const plan = await planSystemd(house, whole, context)
  for (const { wanted, why } of plan.refused)
    context.log(`warning: ${wanted.target === '-' ? '' : `${wanted.target}: `}${wanted.verb}: ${why}`)
  for (const path of ownPlaces()) {
    if (context.mode === 'act') await mkdir(path, { recursive: true, mode: 0o700 })
    else if (context.mode === 'explain') yield line(`(umask 077; mkdir -p ${quote(path)})`)
  }
  yield* show(plan, context)
  yield* leaveTo(plan.started, context)
  if (context.mode === 'act' && !isRoot()) await lingering(context)
  return plan.refused.length > 0
}

/** Takes away what install wrote; of a target that is gone too. */
export async function* remove(by: string | undefined, names: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  for (const name of names) checkName(name)
  const ways: readonly Way[] = by === undefined ? ['systemd', 'crontab', 'rc.d'] : [wayOf(by)]
  const gone = (owner: Owner | undefined) => names.length === 0 || (owner !== undefined && names.includes(owner.target))
  if (by === 'rc.d' && names.length > 0) throw forAll(names)
  if (ways.includes('systemd')) yield* show(await planNothing(gone), context)
  if (ways.includes('crontab')) yield* removeCrontab(names, context)
  if (ways.includes('rc.d') && names.length === 0) yield* removeDaemon(context)
  return 0
}

async function* show(plan: Plan, context: Context): AsyncGenerator<FileRow | Text | CommandLine> {
  if (context.mode === 'explain') {
    yield* explained(plan)
  } else if (context.mode === 'dry-run') {
    for (const step of plan.steps) {
      yield row(step, ({ written: 'would write', removed: 'would remove', unchanged: 'unchanged' } as const)[step.action])
      if (step.action === 'written' && step.text !== undefined) yield { kind: 'text', text: step.text }
    }
  } else for await (const step of carryOut(plan, context)) yield row(step, step.action)
}

const line = (command: string): CommandLine => ({ kind: 'command', command })
const row = ({ path, target }: Step, action: FileRow['action']): FileRow => ({ kind: 'file', target, path, action })

function* explained({ steps, timers }: Plan): Generator<CommandLine> {
  const timersOf = (action: Step['action']) =>
    steps.filter((step) => step.action === action && step.name.endsWith('.timer')).map(({ name }) => name)
  if (timersOf('removed').length > 0) yield line(shown(systemctl(['disable', '--now', ...timersOf('removed')])))
  for (const { path, text, action } of steps) {
    const folder = quote(dirname(path))
    if (action === 'removed') yield line(`rm ${quote(path)}${folder.endsWith('.d') ? `; rmdir ${folder} 2>/dev/null || :` : ''}`)
    if (action === 'written') yield line(`mkdir -p ${folder} && cat > ${quote(path)} <<'END'\n${text}END`)
  }
  if (steps.some(({ action }) => action !== 'unchanged')) yield line(shown(systemctl(['daemon-reload'])))
  if (timers.length > 0) yield line(shown(systemctl(['enable', '--now', ...timers])))
  if (timersOf('written').length > 0) yield line(shown(systemctl(['restart', ...timersOf('written')])))
}

/** A user's timers stand still while the user is not logged in, unless the user lingers (loginctl(1)). */
async function lingering(context: Context): Promise<void> {
  const user = callerVar('USER') ?? callerVar('LOGNAME')
  if (user && (await exists(join('/var/lib/systemd/linger', user)))) return
  context.log(`these timers run only while ${user ? `'${user}'` : 'this user'} is logged in: loginctl enable-linger has them run always`)
}
