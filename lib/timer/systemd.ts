// Timers of systemd: one a target and verb, the services' templates, and what each target's services need.
import { readdir, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Context, Target } from '../contract.ts'
import { copiesOf } from '../copying.ts'
import { placesOf, traitsOf } from '../engine.ts'
import { callerVar } from '../env.ts'
import { Failure } from '../failure.ts'
import { words } from '../keys.ts'
import { liesIn } from '../newtarget.ts'
import { cacheDir, houseDir, stateDir } from '../paths.ts'
import { onCalendar } from '../schedule/oncalendar.ts'
import { kedgeCommand } from '../self.ts'
import { exists } from '../source/paths.ts'
import { present, type Step, stepsTo, take } from './files.ts'
import { isPlain, isRoot, toolPath, unitDir } from './machine.ts'
import { tell, timerStates } from './systemctl.ts'
import { execWords, houseUnit, type Needs, needsRoot, needsUnit, type Owner, ownerOf, placed, timerUnit, type UnitFile } from './units.ts'
import type { House, Wanted } from './wanted.ts'

export type Plan = {
  readonly steps: readonly Step[]
  /** The timers that are to run, with suffix. */
  readonly timers: readonly string[]
  readonly started: readonly Wanted[]
  /** What systemd cannot say, and why. */
  readonly refused: readonly { readonly wanted: Wanted; readonly why: string }[]
}

/** What is to be written. `whole`: all targets are meant, and what is written for none of them goes. */
export async function planSystemd(house: House, whole: boolean, context: Context): Promise<Plan> {
  const timers: UnitFile[] = []
  const started: Wanted[] = []
  const refused: { wanted: Wanted; why: string }[] = []
  for (const wanted of house.wanted) {
    const { expression, zone, seed } = wanted.schedule
    const said = await onCalendar(expression, { zone, seed })
    if ('refused' in said) refused.push({ wanted, why: said.refused })
    else {
      started.push(wanted)
      timers.push(timerUnit({ ...wanted, expression, calendars: said.calendars }))
    }
  }
  const files = [...(await templates(started)), ...timers, ...(await needs(house, started, context))]
  const named = new Set(house.targets.map(({ name }) => name))
  const stays = (name: string) => {
    const { target } = ownerOf(name) ?? { target: '-' }
    // Who asks for a digest is not known of a target that does not load.
    return whole ? (target === '-' ? house.broken.size > 0 : house.broken.has(target)) : !named.has(target)
  }
  const there = await present(unitDir())
  return { steps: stepsTo(unitDir(), files, there, stays), timers: timers.map(({ name }) => name), started, refused }
}

/** The plan that takes away what was written, of what is `gone`: a file of a target's verb has it for an owner, one of the house none. */
export async function planNothing(gone: (owner: Owner | undefined) => boolean): Promise<Plan> {
  const steps = stepsTo(unitDir(), [], await present(unitDir()), (name) => !gone(ownerOf(name)))
  return { steps, timers: [], started: [], refused: [] }
}

async function templates(started: readonly Wanted[]): Promise<UnitFile[]> {
  const from = join(houseDir(), 'systemd')
  const command = await kedgeCommand()
  const names = (await readdir(from, { recursive: true })).filter((name) => /\.(service|conf)$/.test(name)).sort()
  const digests = started.filter(({ verb }) => verb === 'digest')
  const files: UnitFile[] = []
  for (const name of names) {
    if (needsRoot(name) && !isRoot()) continue
    const text = placed(await readFile(join(from, name), 'utf8'), command)
    if (!name.startsWith('kedge-digest.service')) files.push({ name, target: '-', text })
    else files.push(...digests.map((digest) => ofDigest(digest, name, text, command)))
  }
  const own = houseUnit(surroundings(), ownPlaces())
  return own ? [...files, own] : files
}

/** The digest's files are written with its timer, for each of the digests that there are. */
function ofDigest({ unit, command: asked }: Wanted, name: string, text: string, command: readonly string[]): UnitFile {
  const all = execWords([...command, ...asked])
  return {
    name: name.replace('kedge-digest', unit),
    target: '-',
    text: text.replace(/^ExecStart=.*$/m, () => `ExecStart=${all}`),
  }
}

const folders = ['KEDGE_CONFIG_DIR', 'KEDGE_STATE_DIR', 'KEDGE_CACHE_DIR'] as const

/** The variables that services and cron do not set by themselves. */
export function surroundings(): Record<string, string> {
  const given = folders.flatMap((name) => {
    const value = callerVar(name)
    return value ? [[name, value] as const] : []
  })
  const path = toolPath()
  return { ...Object.fromEntries(given), ...(isPlain(path) ? {} : { PATH: path }) }
}

/** Folders of kedge's own that are not where the sandbox opens them. */
export function ownPlaces(): string[] {
  if (!isRoot()) return []
  return [dirname(stateDir('x')), dirname(cacheDir('x'))].filter((path) => !liesIn(path, ['/var/lib/kedge', '/var/cache/kedge']))
}

/** The drop-ins of services, and of the notify units that their failures start. */
async function needs(house: House, started: readonly Wanted[], context: Context): Promise<UnitFile[]> {
  if (!isRoot()) return [] // a user's manager has no sandbox of paths, and kedge opens a user's credentials itself
  const files: (UnitFile | undefined)[] = []
  for (const target of house.targets) {
    for (const { verb, unit } of started.filter((each) => each.target === target.name)) {
      const all = [target, ...(await secondStores(target, verb, context))]
      const writable = (await Promise.all(all.map(placesOf))).flat()
      const open = ['/var/lib/kedge', '/var/cache/kedge', '/var/backups/kedge']
      const places = [...new Set([...writable, ...keyPlaces(all)])].filter((path) => !liesIn(path, open))
      const credentials = await credentialOf(target)
      const opens = all.some(({ secret, name }) => secret === 'credential' && (name !== target.name || credentials.length === 0))
      const owners = verb !== 'check' && (await Promise.all(all.map(({ engine }) => traitsOf(engine)))).some((each) => each.keepsOwners)
      files.push(needsUnit(`${unit}.service`, target.name, { writable: places, credentials, opens, owners }))
      files.push(needsUnit(`kedge-notify@${verb}:${target.name}.service`, target.name, tellingNeeds([target])))
    }
  }
  const digest = house.targets.filter(({ env }) => env.NOTIFY && words(env.NOTIFY_ON).includes('digest'))
  for (const { unit } of started.filter(({ verb }) => verb === 'digest'))
    files.push(needsUnit(`${unit}.service`, '-', tellingNeeds(digest)))
  return files.filter((file) => file !== undefined)
}

/** gpg locks its keys, and its agent listens there; a command may be pass(1), which is gpg. */
const keyPlaces = (targets: readonly Target[]): string[] =>
  targets.some(({ secret }) => secret === 'gpg' || secret === 'command') ? [join(homedir(), '.gnupg')] : []

/** What only tells of targets is loaded no credential: it has to start where one does not open, to tell of that. */
const tellingNeeds = (targets: readonly Target[]): Needs => ({
  writable: keyPlaces(targets),
  credentials: [],
  opens: targets.some(({ secret }) => secret === 'credential'),
})

/** The targets to whose stores a verb writes as well. One that does not load is said; copy itself will fail for it. */
async function secondStores(target: Target, verb: string, context: Context): Promise<Target[]> {
  const copies = verb === 'copy' || (verb === 'backup' && target.env.COPY_AFTER_BACKUP === 'yes')
  if (!copies || !target.env.COPY_TO) return []
  try {
    const { to, faults } = await copiesOf(target, [])
    for (const { store, error } of faults) context.log(`warning: ${target.name}: ${store}: ${error.message}`)
    return [...to]
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.log(`warning: ${target.name}: ${error.message}`)
    return []
  }
}

/**
 * The target's own alone, without which its verb can do nothing: systemd starts no unit with one that does not open, and a second store's
 * would keep the backup from being made. None where it is not there: kedge then says what is missing.
 */
async function credentialOf({ name, dir, secret }: Target): Promise<{ name: string; file: string }[]> {
  const file = join(dir, 'secret.cred')
  return secret === 'credential' && (await exists(file)) ? [{ name: `kedge-${name}`, file }] : []
}

/** Does the steps, and has systemd start the timers and stop those that go; a step is given back when it is done. */
export async function* carryOut({ steps, timers }: Plan, context: Context): AsyncGenerator<Step> {
  const isTimer = ({ name }: Step) => name.endsWith('.timer')
  const going = steps.filter((step) => step.action === 'removed' && isTimer(step)).map(({ name }) => name)
  const changed = steps.filter((step) => step.action === 'written' && isTimer(step)).map(({ name }) => name)
  if (going.length > 0) await tell(['disable', '--now', '--', ...going], context)
  for (const step of steps) {
    await take(step)
    yield step
  }
  if (steps.some(({ action }) => action !== 'unchanged')) await tell(['daemon-reload'], context)
  const before = await timerStates(timers, context)
  const idle = timers.filter((name) => !before.get(name)?.enabled || !before.get(name)?.active)
  const old = changed.filter((name) => !idle.includes(name))
  if (idle.length > 0) await tell(['enable', '--now', '--', ...idle], context)
  if (old.length > 0) await tell(['restart', '--', ...old], context)
  const after = idle.length + old.length > 0 ? await timerStates(timers, context) : before
  const wrong = timers.filter((name) => !after.get(name)?.enabled || !after.get(name)?.active)
  if (wrong.length > 0)
    throw new Failure('tool', `systemd does not run ${wrong.map((name) => `'${name}'`).join(', ')}`, {
      hint: `systemctl status ${wrong[0]}`,
    })
}
