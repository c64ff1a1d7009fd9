// The only place that creates a repository; or pins one that exists, and takes in its snapshots by a filter.
import { readdir } from 'node:fs/promises'
import type { RunContext, SnapshotFilter, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { many } from '../../format.ts'
import { isAbsent } from '../../ledger.ts'
import { pinnedByHand, pinStore } from '../../pin.ts'
import type { CommandLine, Snapshot, StoreRow } from '../../rows.ts'
import { openSecrets } from '../../secret.ts'
import { quote } from '../../shell.ts'
import { marks, othersOf } from '../../snapshots.ts'
import { eachSnapshot } from './byhand.ts'
import { identityArgs, readConfig } from './identity.ts'
import { fromSecond, secondEnv } from './second.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, explain, localRepository, repository } from './tool.ts'

export const initArgs = (like: boolean): string[] => ['init', ...(like ? ['--copy-chunker-params'] : [])]

/** Adds the target's tag to snapshots, by id. */
export const adoptArgs = (target: Target, ids: readonly string[]): string[] => ['tag', '--add', `kedge:${target.name}`, ...ids]

/** The snapshots that pass the filter; without a filter all. As a table of one line each. */
export function candidatesArgs(filter: SnapshotFilter): string[] {
  return [
    'snapshots',
    '--no-lock',
    '--compact',
    ...(filter.host ? ['--host', filter.host] : []),
    ...(filter.paths ?? []).flatMap((path) => ['--path', path]),
    ...(filter.tags ?? []).flatMap((tag) => ['--tag', tag]),
  ]
}

const init: VerbOf<'init'> = async function* (target, { adopt, filter, from, like }, context) {
  if (from !== undefined) throw new Failure('misuse', '--from is for the engine rsync: a repository of restic lies where it is')
  const pinned = target.env.STORE_ID
  if (context.mode === 'explain') {
    if (like && !(pinned && !adopt)) yield fromSecond(like)
    if (adopt) yield* adoptedByHand(target, filter ?? {})
    else if (pinned) {
      context.log(`'${target.name}' is pinned to ${pinned.slice(0, 10)}: where that is the id of what is there, there is nothing to do`)
      yield explain(target, identityArgs())
    } else yield explain(target, initArgs(like !== undefined))
    if (!pinned) yield* pinnedByHand(target, explain(target, identityArgs()).command)
    return
  }
  const store = repository(target)
  const found = await existing(target, context)
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
  await refuseFilled(target)
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

/** A repository among other files is a mistyped path. A new disk has its lost+found. */
async function refuseFilled(target: Target): Promise<void> {
  const folder = localRepository(target)
  if (folder === undefined) return
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (isAbsent(error)) return []
    throw error
  })
  const [first] = names.filter((name) => name !== 'lost+found').sort()
  if (first === undefined) return
  throw new Failure('refused', `refusing to create a repository at '${repository(target)}': the folder holds something else: ${first}`, {
    hint: 'name a new or empty folder',
  })
}

/** The id of the repository that is there; undefined only where restic says that there is none. */
async function existing(target: Target, context: RunContext): Promise<string | undefined> {
  try {
    return (await readConfig(target, context)).id
  } catch (error) {
    if (error instanceof Failure && error.class === 'missing') return undefined
    throw error
  }
}

/** By id, without those of other targets: marks and the tags that the filter names are taken out of each line, and no kedge: must be left. */
function* adoptedByHand(target: Target, filter: SnapshotFilter): Generator<CommandLine> {
  const named = (filter.tags ?? []).filter((tag) => tag.startsWith('kedge:')).map((tag) => tag.slice('kedge:'.length))
  const known = [...marks.map((tag) => tag.slice('kedge:'.length)), ...named].map((name) => name.replace(/[^\w-]/g, '[$&]'))
  // The table has a snapshot's first tag beside its id, the others below.
  const foreign = `for (i = 1; i <= NF; i++) if (now != "" && $i ~ /^kedge:/ && $i !~ /^kedge:(${known.join('|')})$/) { n--; now = "" }`
  const awk = `${eachSnapshot('id[++n] = now = $1')} { ${foreign} } END { for (i = 1; i <= n; i++) print id[i] }`
  yield { kind: 'command', command: `ids=$(${explain(target, candidatesArgs(filter)).command} | awk ${quote(awk)})` }
  // Without an id restic would tag them all.
  yield { kind: 'command', command: `[ -z "$ids" ] || ${explain(target, adoptArgs(target, [])).command} $ids` }
}

async function takeIn(target: Target, filter: SnapshotFilter, context: RunContext): Promise<{ adopted: number }> {
  const own = await snapshotsOf(target, context)
  const before = new Set(own.map(({ id }) => id))
  const all = await snapshotsOf(target, context, { all: true })
  const passing = all.filter(
    (each) =>
      (!filter.host || each.host === filter.host) &&
      (filter.paths ?? []).every((path) => each.paths.includes(path)) &&
      (!filter.tags?.length || filter.tags.some((tag) => each.tags.includes(tag))),
  )
  if (passing.length === 0 && all.length > 0) context.log(`no snapshot in '${repository(target)}' passes the filter`)
  const matching = passing.filter(({ id }) => !before.has(id))
  // What is another target's would be deleted by this one's keep rules: only where it is asked for by its tag.
  const foreign = (each: Snapshot) => othersOf(target, each).filter((name) => !filter.tags?.includes(`kedge:${name}`))
  const passes = matching.filter((each) => foreign(each).length === 0)
  const left = matching.length - passes.length
  if (left > 0) {
    const names = [...new Set(matching.flatMap(foreign))]
    context.log(
      `${many(left, 'snapshot is', 'snapshots are')} left out: of ${names.map((name) => `'${name}'`).join(', ')}; ${names.map((name) => `--tag kedge:${name}`).join(' ')} takes them in`,
    )
  }
  if (context.mode === 'dry-run' || passes.length === 0) return { adopted: passes.length }
  // By id: what the filter of restic's takes in could have changed since the list was read.
  const ids = passes.map(({ id }) => id)
  for (let i = 0; i < ids.length; i += 200) {
    await askRestic(target, adoptArgs(target, ids.slice(i, i + 200)), context, {
      action: `tag snapshots in '${repository(target)}'`,
    })
  }
  const adopted = (await snapshotsOf(target, context)).length - own.length
  if (adopted !== passes.length) context.warn(`${passes.length - adopted} of ${passes.length} snapshots were not tagged`, 'partial')
  return { adopted }
}
