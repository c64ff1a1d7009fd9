// What one target needs: a valid configuration, sources, secrets, its store, room, a sandbox that lets it write, a key kept elsewhere.
import { join } from 'node:path'
import type { Context, Target } from '../contract.ts'
import { placesOf, traitsOf } from '../engine.ts'
import { Failure } from '../failure.ts'
import { judge } from '../guard.ts'
import { liesIn } from '../newtarget.ts'
import { cacheDir, stateDir } from '../paths.ts'
import { gather } from '../preflight.ts'
import { scheduledVerbs, scheduleOf } from '../schedule/verbs.ts'
import { notedRecovery } from '../sheet.ts'
import { isSecondStore, loadTarget } from '../target.ts'
import { scheduled, startersOf } from '../timer/list.ts'
import { planSystemd } from '../timer/systemd.ts'
import { wantedOf } from '../timer/wanted.ts'
import { blocked, type Found, ok, warning } from './finding.ts'
import { notifyFindings } from './notify.ts'
import { closed, sameDevice, space, writable } from './place.ts'
import { rsyncFindings } from './rsync.ts'
import { failed, ownLocks, secretsOf, store } from './store.ts'
import { installedUnit, mayWrite } from './unit.ts'

/** Every check of a target; where its configuration does not load there is nothing else to see. */
export async function* targetFindings(name: string, context: Context): AsyncGenerator<Found> {
  let target: Target
  try {
    target = await loadTarget(name)
  } catch (error) {
    if (!(error instanceof Failure) || error.class === 'misuse') throw error
    yield failed('configuration', error)
    return
  }
  yield ok('configuration', `'${join(target.dir, 'target.env')}' is valid`)
  yield await closed('configuration', target.dir)
  yield* preflight(target)
  yield* ownLocks(target)
  const { found, secrets } = await secretsOf(target, context)
  yield* found
  if (secrets) yield* store(target, secrets, context)
  else yield warning('store', 'not looked at: its secrets were not opened', 'see above')
  if (target.engine === 'rsync') yield* rsyncFindings(target, context)
  yield* notifyFindings(target, secrets)
  yield* places(target)
  yield* sandboxed(target)
  yield* started(target, context)
  yield await keptElsewhere(target)
}

/** The guards of backup, on the same facts. */
async function* preflight(target: Target): AsyncGenerator<Found> {
  for (const { guard, level, message, hint, class: kind } of judge(await gather(isSecondStore(target) ? 'copy' : 'backup', target))) {
    if (level === 'ok') yield ok(guard, message)
    else if (level === 'warning') yield warning(guard, message, hint ?? 'a backup does the rest and ends with status 3')
    else yield blocked(guard, message, hint, kind)
  }
  for (const { guard, message, hint, class: kind, level } of judge(await gather('prune', target))) {
    if (guard === 'clock' && level === 'blocked') yield blocked(guard, message, hint, kind)
  }
}

async function* places(target: Target): AsyncGenerator<Found> {
  yield await writable('state', stateDir(target.name))
  yield await writable('cache', cacheDir(target.name))
  const local = (await traitsOf(target.engine)).storeFolder(target)
  if (local === undefined) return
  yield await space('store space', local)
  if (target.env.SOURCE_HOST) return // what it saves lies on that host's disks
  const same = await sameDevice(local, target.paths)
  if (same.length > 0) {
    const list = same.map((path) => `'${path}'`).join(', ')
    yield warning(
      'store place',
      `the store '${local}' lies on the same file system as ${list}`,
      `a second store elsewhere: kedge new NAME --copy-of ${target.name}`,
    )
  } else if (target.paths.length > 0) yield ok('store place', `the store '${local}' lies on another file system than what it saves`)
}

/** The units of what is scheduled, and of backup, which may be started by hand. */
async function* sandboxed(target: Target): AsyncGenerator<Found> {
  const wanted = [stateDir(target.name), cacheDir(target.name), ...(await placesOf(target))]
  const timed = scheduledVerbs.filter((verb) => scheduleOf(target, verb))
  for (const verb of new Set(['backup', ...timed])) {
    const unit = await installedUnit(verb, target.name)
    if (!unit) continue
    const shut = wanted.filter((path) => !mayWrite(unit.sandbox, path))
    if (shut.length === 0) yield ok('sandbox', `'${unit.file}' may write where the target writes`)
    for (const path of shut) {
      const remedy = `kedge schedule install ${target.name}; or systemctl edit kedge-${verb}@${target.name}: [Service] ReadWritePaths=${path}`
      yield blocked('sandbox', `'${unit.file}' may not write '${path}'`, remedy, 'permission')
    }
  }
}

/** Whether something starts what is scheduled, and as the settings say. */
async function* started(target: Target, context: Context): AsyncGenerator<Found> {
  const house = { targets: [target], wanted: wantedOf(target), broken: new Set<string>(), statuses: [] }
  const starters = await startersOf(context)
  const idle: string[] = []
  for await (const rows of scheduled(house, starters, new Date())) {
    for (const { verb, by } of rows) {
      if (by === '-') idle.push(verb)
      else yield ok('schedule', `${verb} is started by ${by === 'scheduler' ? 'kedge scheduler' : by}`)
    }
  }
  if (idle.length > 0)
    yield warning(
      'schedule',
      `nothing on this machine starts what is scheduled: ${idle.join(', ')}`,
      `kedge schedule install ${target.name}`,
    )
  const timed = house.wanted.some(({ unit }) => starters.timers.has(`${unit}.timer`))
  const plan = timed ? await planSystemd(house, false, context) : undefined
  const old = plan?.steps.filter((step) => step.target === target.name && step.action !== 'unchanged') ?? []
  if (old.length > 0) {
    const list = old.map(({ path }) => `'${path}'`).join(', ')
    yield warning('schedule', `systemd's units are not as the settings want them: ${list}`, `kedge schedule install ${target.name}`)
  }
}

async function keptElsewhere(target: Target): Promise<Found> {
  const { password, storeName } = await traitsOf(target.engine)
  if (!password)
    return ok(
      'recovery',
      `no secret opens the store '${storeName(target)}': whoever has its disk reads the snapshots, so guard it; kedge recovery ${target.name} says how they come back`,
    )
  const noted = await notedRecovery(target)
  if (noted)
    return ok('recovery', `noted on ${noted.slice(0, 10)} that the recovery sheet and what opens the repository are kept elsewhere`)
  const inside = liesIn(target.dir, target.paths)
  const text = inside
    ? 'as far as kedge knows, what opens the repository is only on this machine, and in the repository itself'
    : 'as far as kedge knows, what opens the repository is only on this machine, and is lost with it'
  return warning('recovery', text, `kedge recovery ${target.name}, keep it elsewhere, then: kedge recovery ${target.name} --noted`)
}
