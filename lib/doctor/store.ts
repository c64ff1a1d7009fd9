// What only the opened store can tell: whether the secrets open, which store it is, who has locked it. Nobody is asked anything.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context, Rows, RunContext, Target } from '../contract.ts'
import { traitsOf, verbOf } from '../engine.ts'
import { Failure } from '../failure.ts'
import { duration } from '../format.ts'
import { bare } from '../lifecycle.ts'
import { holders } from '../lock.ts'
import { objections } from '../pruning.ts'
import type { LockRow, Row, Snapshot, StoreRow } from '../rows.ts'
import { lockDir } from '../running.ts'
import { openSecrets } from '../secret.ts'
import type { Traits } from '../traits.ts'
import { blocked, type Found, ok, warning } from './finding.ts'

class Question extends Error {}

/** The findings about the secrets, and the secrets; without them where a question would be needed. */
export async function secretsOf(target: Target, context: Context): Promise<{ found: Found[]; secrets?: Record<string, string> }> {
  const ask = async () => {
    throw new Question()
  }
  try {
    const secrets = await openSecrets(target, { ...context, ask })
    return { found: [kept(target, await traitsOf(target.engine))], secrets }
  } catch (error) {
    if (error instanceof Question) {
      return {
        found: [warning('secrets', 'not tried: a passphrase is needed', '--passphrase-fd N gives it, and the store is looked at too')],
      }
    }
    if (!(error instanceof Failure)) throw error
    return { found: [failed('secrets', error)] }
  }
}

export const failed = (check: string, error: Failure): Found => blocked(check, error.message, error.hint, error.class)

function kept({ secret }: Target, { password }: Traits): Found {
  switch (secret) {
    case 'file':
      return warning(
        'secrets',
        password
          ? 'the password lies in plain text: whoever is root here, or has the disk or a copy of /etc, can read every snapshot'
          : 'they lie in plain text: whoever is root here, or has the disk or a copy of /etc, can read them',
        'SECRET=gpg or SECRET=credential keeps it encrypted',
      )
    case 'none':
      return ok('secrets', 'the target has none of its own')
    default:
      return ok('secrets', `they open (SECRET=${secret})`)
  }
}

/** Whether the store answers, is the pinned one, and who has locked it. */
export async function* store(target: Target, secrets: Readonly<Record<string, string>>, context: Context): AsyncGenerator<Found> {
  // A tool's cache would be made where there is none, and doctor changes nothing.
  const cache = await mkdtemp(join(tmpdir(), 'kedge-doctor-'))
  const { cacheVariable } = await traitsOf(target.engine)
  const scratch = { ...target, env: { ...target.env, ...(cacheVariable && { [cacheVariable]: cache }) } }
  const odd: string[] = []
  let pinned = true
  const inner: RunContext = {
    ...bare(context, secrets),
    mode: 'dry-run',
    warn: (message) => void odd.push(message),
    progress: () => undefined,
  }
  try {
    const identity = await verbOf(target.engine, 'identity')
    if (!('instead' in identity))
      for (const row of await all<StoreRow>(identity(scratch, {}, inner), 'store')) {
        const found = named(target, row)
        pinned &&= found.level === 'ok'
        yield found
      }
    const unlock = await verbOf(target.engine, 'unlock')
    if ('instead' in unlock) return
    const locks = await all<LockRow>(unlock(scratch, { force: false }, inner), 'lock')
    for (const { pid, host, age, alive, exclusive } of locks) {
      yield lockFound(
        target.name,
        `the store is locked${exclusive ? ' exclusively' : ''} by process ${pid} on host '${host}' since ${duration(age)}`,
        alive,
      )
    }
    for (const message of odd) yield warning('locks', message, `kedge unlock ${target.name} says more`)
    if (locks.length === 0) yield ok('locks', 'the store is not locked')
    const list = await verbOf(target.engine, 'list')
    if (pinned && !('instead' in list)) yield* clock(target, await all<Snapshot>(list(scratch, {}, inner), 'snapshot'))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    yield failed('store', error)
  } finally {
    await rm(cache, { recursive: true, force: true })
  }
}

/** The guard of prune, by the same judge on the same facts: spans such as KEEP_WITHIN count from the newest snapshot, and so does `latest`. */
function* clock(target: Target, snapshots: readonly Snapshot[]): Generator<Found> {
  const found = objections(target, snapshots, new Date()).filter(({ guard }) => guard === 'clock')
  for (const { message } of found)
    yield blocked('clock', message, 'set the clock; where it was wrong only then: kedge forget takes that snapshot away', 'refused')
  if (found.length === 0 && snapshots.length > 0) yield ok('clock', 'no snapshot is from the future, or far away from the others')
}

async function all<R extends Row>(rows: AsyncIterable<Rows>, kind: R['kind']): Promise<R[]> {
  const found: R[] = []
  for await (const batch of rows)
    for (const row of Array.isArray(batch) ? (batch as readonly Row[]) : [batch as Row]) if (row.kind === kind) found.push(row as R)
  return found
}

function named(target: Target, { id, store }: StoreRow): Found {
  const pinned = target.env.STORE_ID
  const text = `it opens: ${id.slice(0, 10)} in '${store}'`
  if (!pinned) return ok('store', `${text}, not pinned yet`)
  if (id === pinned) return ok('store', `${text}, the pinned one`)
  return blocked(
    'store',
    `another store lies in '${store}': its id is ${id.slice(0, 10)}, pinned is ${pinned.slice(0, 10)}`,
    'is the right disk mounted?',
    'refused',
  )
}

function lockFound(name: string, text: string, alive: LockRow['alive']): Found {
  if (alive === 'yes') return ok('locks', `${text}, which lives`)
  if (alive === 'no')
    return warning('locks', `${text}, which is dead`, `kedge unlock ${name} removes it, and so does the next run where it is its own`)
  return warning('locks', `${text}; whether it lives cannot be told`, `kedge unlock ${name} says more`)
}

/** kedge's own locks on the target. */
export async function* ownLocks({ name }: Target): AsyncGenerator<Found> {
  const held = await holders(lockDir(name))
  for (const { holder, alive } of held) {
    const by = holder
      ? `${holder.verb}, process ${holder.pid} on host '${holder.host}' since ${holder.at}`
      : 'a run whose lock cannot be read'
    yield lockFound(name, `kedge is locked by ${by}`, alive)
  }
  if (held.length === 0) yield ok('locks', 'kedge holds none')
}
