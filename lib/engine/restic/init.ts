// The only place that creates a repository; or pins one that exists, and takes in its snapshots by a filter.
import type { RunContext, SnapshotFilter, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { pinStore } from '../../pin.ts'
import type { StoreRow } from '../../rows.ts'
import { openSecrets } from '../../secret.ts'
import { readConfig } from './identity.ts'
import { fromSecond, secondEnv } from './second.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, explain, repository } from './tool.ts'

export const initArgs = (like: boolean): string[] => ['init', ...(like ? ['--copy-chunker-params'] : [])]

/** Adds the target's tag to the snapshots that pass the filter; without a filter to all. */
export function adoptArgs(target: Target, filter: SnapshotFilter): string[] {
  return [
    'tag',
    '--add',
    `kedge:${target.name}`,
    ...(filter.host ? ['--host', filter.host] : []),
    ...(filter.paths ?? []).flatMap((path) => ['--path', path]),
    ...(filter.tags ?? []).flatMap((tag) => ['--tag', tag]),
  ]
}

const init: VerbOf<'init'> = async function* (target, { adopt, filter, like }, context) {
  if (context.mode === 'explain') {
    if (like) yield fromSecond(like)
    yield explain(target, adopt ? adoptArgs(target, filter ?? {}) : initArgs(like !== undefined))
    return
  }
  const store = repository(target)
  const found = await existing(target, context)
  const pinned = target.env.STORE_ID
  const row: StoreRow = { kind: 'store', target: target.name, id: found ?? '', store, created: false }
  if (pinned && found === undefined) {
    throw new Failure(
      'refused',
      `refusing to create a repository at '${store}': the target is pinned to ${pinned.slice(0, 10)}, which is not there`,
      {
        hint: 'is the disk mounted? Where a new one is meant, remove STORE_ID from its target.env first',
      },
    )
  }
  if (pinned && pinned !== found) {
    throw new Failure('refused', `another store lies in '${store}': its id is ${found?.slice(0, 10)}, pinned is ${pinned.slice(0, 10)}`)
  }
  if (adopt) {
    if (found === undefined)
      throw new Failure('missing', `cannot adopt '${store}': there is no repository`, { hint: `kedge init ${target.name} creates one` })
    yield { ...row, ...(await takeIn(target, filter ?? {}, context)), ...(context.mode === 'dry-run' && { dryRun: true as const }) }
    if (context.mode === 'act' && !pinned) await pinStore(target, found, context)
    return
  }
  if (found !== undefined && !pinned) {
    throw new Failure('refused', `refusing to use '${store}': a repository exists there`, {
      hint: `kedge init --adopt ${target.name} pins it`,
    })
  }
  if (found !== undefined) {
    context.log(`'${store}' exists and is pinned: nothing to do`)
    yield row
    return
  }
  if (context.mode === 'dry-run') {
    yield { ...row, created: true, dryRun: true }
    return
  }
  const second = like && { target: like, secrets: await openSecrets(like, context) }
  await askRestic(target, initArgs(like !== undefined), context, {
    action: `create a repository at '${store}'`,
    timeout: 600,
    ...(second && { env: secondEnv(target, context.secrets, second.target, second.secrets), second: second.secrets.RESTIC_PASSWORD }),
  })
  const { id } = await readConfig(target, context)
  await pinStore(target, id, context)
  yield { ...row, id, created: true }
}
export default init

/** The id of the repository that is there; undefined only where restic says that there is none. */
async function existing(target: Target, context: RunContext): Promise<string | undefined> {
  try {
    return (await readConfig(target, context)).id
  } catch (error) {
    if (error instanceof Failure && error.class === 'missing') return undefined
    throw error
  }
}

async function takeIn(target: Target, filter: SnapshotFilter, context: RunContext): Promise<{ adopted: number }> {
  const own = await snapshotsOf(target, context)
  const before = new Set(own.map(({ id }) => id))
  const all = await snapshotsOf(target, context, { all: true })
  const passes = all.filter(
    (each) =>
      !before.has(each.id) &&
      (!filter.host || each.host === filter.host) &&
      (filter.paths ?? []).every((path) => each.paths.includes(path)) &&
      (!filter.tags?.length || filter.tags.some((tag) => each.tags.includes(tag))),
  )
  if (context.mode === 'dry-run' || passes.length === 0) return { adopted: passes.length }
  // By id: what the filter of restic's takes in could have changed since the list was read.
  const ids = passes.map(({ id }) => id)
  for (let i = 0; i < ids.length; i += 200) {
    await askRestic(target, ['tag', '--add', `kedge:${target.name}`, ...ids.slice(i, i + 200)], context, {
      action: `tag snapshots in '${repository(target)}'`,
    })
  }
  const adopted = (await snapshotsOf(target, context)).length - own.length
  if (adopted !== passes.length) context.warn(`${passes.length - adopted} of ${passes.length} snapshots were not tagged`, 'partial')
  return { adopted }
}
