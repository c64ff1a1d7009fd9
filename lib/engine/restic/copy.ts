// Copies of a target's snapshots in second stores: by id, only what is missing there, and both stores known by their pins.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { preamble } from '../../preamble.ts'
import type { Copied } from '../../rows.ts'
import { holding, judgeSecond, overridable, tellOf } from '../../secondstore.ts'
import { openSecrets } from '../../secret.ts'
import { targetTags } from '../../target.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { type Config, verifyIdentity } from './identity.ts'
import { fromSecond, secondEnv } from './second.ts'
import { type ResticSnapshot, snapshotsArgs } from './snapshots.ts'
import { askRestic, explain, repository, resticEnv, version } from './tool.ts'
import type { Version } from './version.ts'

/** restic runs on the second store and reads from the first, which the environment names. Without ids: by the tags. */
export function copyArgs(target: Target, to: Target, ids: readonly string[] | undefined, restic: Version): string[] {
  return ['copy', ...waitArgs(to, restic), ...(ids ?? targetTags(target).flatMap((tag) => ['--tag', tag]))]
}

type Known = Pick<ResticSnapshot, 'id' | 'original' | 'time' | 'tree'>

/**
 * What of `own` has no copy in `there`. A copy names the id that it comes from, or else has the same time and tree. restic itself
 * compares tags too, and would copy each snapshot again that was held or tagged since.
 */
export function missingIn<S extends Known>(own: readonly S[], there: readonly Known[]): S[] {
  const ids = new Set(there.flatMap(({ id, original }) => (original ? [id, original] : [id])))
  const states = new Set(there.map(({ time, tree }) => `${time} ${tree}`))
  return own.filter(({ id, original, time, tree }) => !ids.has(id) && !(original && ids.has(original)) && !states.has(`${time} ${tree}`))
}

/** A second store: its secrets, and what restic's environment gets for reading the first one. */
type Second = { to: Target; secrets: Readonly<Record<string, string>>; env: Record<string, string> }
type First = { target: Target; context: RunContext; config: Config; snapshots: readonly ResticSnapshot[] }

const copy: VerbOf<'copy'> = async function* (target, { to, faults }, context) {
  if (context.mode === 'explain') {
    for (const { error } of faults) throw error
    const restic = await version(target)
    for (const each of to) {
      // The first store's environment, which the lifecycle printed, must not show through what the second one leaves unset.
      yield {
        kind: 'command',
        command: 'unset RESTIC_REPOSITORY RESTIC_REPOSITORY_FILE RESTIC_PASSWORD RESTIC_PASSWORD_COMMAND RESTIC_PASSWORD_FILE',
      }
      yield fromSecond(target)
      yield* preamble(each)
      yield explain(each, copyArgs(target, each, undefined, restic))
    }
    return
  }
  const failed = tellOf(context)
  for (const { store, error } of faults) failed(store, error)
  const seconds: Second[] = []
  for (const each of to) {
    try {
      const secrets = await openSecrets(each, context)
      // The first store's folders of the cache have its trees already.
      const cache = resticEnv(target, context.secrets).RESTIC_CACHE_DIR ?? ''
      seconds.push({ to: each, secrets, env: { ...secondEnv(each, secrets, target, context.secrets), RESTIC_CACHE_DIR: cache } })
    } catch (error) {
      // What cannot meet in one restic is a fault of the settings, and told as one where no other store is left.
      if (error instanceof Failure && error.class === 'config' && to.length + faults.length === 1) throw error
      failed(each.name, error)
    }
  }
  if (seconds.length === 0) return
  const first = { target, context, config: await verifyIdentity(target, context), snapshots: await listed(target, context) }
  for (const second of seconds) {
    try {
      yield await copyTo(first, second)
    } catch (error) {
      failed(second.to.name, error)
    }
  }
}
export default copy

async function listed(target: Target, context: RunContext, all = false): Promise<ResticSnapshot[]> {
  const action = `list the snapshots in '${repository(target)}'`
  const text = await askRestic(target, snapshotsArgs(target, { all }), context, { action, timeout: 3600 })
  const snapshots = (JSON.parse(text || '[]') as ResticSnapshot[] | null) ?? []
  return snapshots.sort((a, b) => (a.time < b.time ? -1 : 1))
}

/** The oldest first; under the second target's lock too, so that no prune runs there meanwhile. */
async function copyTo(first: First, second: Second): Promise<Copied> {
  const { target, context } = first
  const { to, secrets } = second
  if (context.mode === 'dry-run') {
    const there: RunContext = { ...context, secrets }
    const { missing } = await compare(first, to, there)
    return {
      kind: 'copied',
      target: target.name,
      to: to.name,
      copied: missing.length,
      present: first.snapshots.length - missing.length,
      dryRun: true,
    }
  }
  return await holding(target, to, secrets, context, async (there) => {
    const { missing } = await compare(first, to, there)
    if (missing.length > 0) {
      context.log(`copying ${missing.length} of ${first.snapshots.length} snapshots of '${target.name}' to '${to.name}'`)
      const ids = missing.map(({ id }) => id)
      await withoutOwnDeadLocks(target, context, () => withoutOwnDeadLocks(to, there, () => start(first, second, there, ids)))
      const lost = missingIn(missing, await listed(to, there, true))
      if (lost.length > 0)
        throw new Failure(
          'tool',
          `${lost.length} snapshots are not there after the copy: ${lost.map(({ id }) => id.slice(0, 8)).join(', ')}`,
        )
    }
    return { kind: 'copied', target: target.name, to: to.name, copied: missing.length, present: first.snapshots.length - missing.length }
  })
}

/** Judges the second store, and finds what it lacks. */
async function compare(
  { target, context, config, snapshots }: First,
  to: Target,
  there: RunContext,
): Promise<{ missing: ResticSnapshot[] }> {
  judgeSecond(target, to, context, `kedge init --like ${target.name} ${to.name}`)
  const found = await verifyIdentity(to, there)
  if (found.chunker_polynomial !== config.chunker_polynomial) {
    const message = `refusing to copy to '${to.name}': its store has other chunker parameters, so that copies share no data with its own backups`
    overridable(context, 'chunker', message, `kedge init --like ${target.name} makes a store with the same ones`)
  }
  return { missing: missingIn(snapshots, await listed(to, there, true)) }
}

/** At most 500 a process: ids are long, and argv is not. */
async function start({ target, context }: First, { to, env }: Second, there: RunContext, ids: readonly string[]): Promise<void> {
  const restic = await version(to)
  for (let i = 0; i < ids.length; i += 500) {
    const text = await askRestic(to, copyArgs(target, to, ids.slice(i, i + 500), restic), there, {
      action: `copy the snapshots of '${target.name}' to '${repository(to)}'`,
      env,
      second: context.secrets.RESTIC_PASSWORD,
    })
    for (const line of text.split('\n')) if (line.trim()) context.detail(`restic: ${line.trim()}`)
  }
}
