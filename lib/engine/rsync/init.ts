// The only place that creates a store; or pins one that exists, and takes in what another tool saved.
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunContext, SnapshotFilter, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { many } from '../../format.ts'
import { words } from '../../keys.ts'
import { pinnedByHand, pinStore } from '../../pin.ts'
import type { CommandLine, StoreRow } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { adoptTree, begun, goOn, removeEmpty } from './adopting.ts'
import { createStore, judgePlace, makeRoot } from './create.ts'
import { refuseClaimed } from './neighbours.ts'
import { idsIn } from './snapshots.ts'
import { openStore, ownersOf, readStore, rootOf, storeFile, storeOf } from './store.ts'
import { takeStoreLock } from './storelock.ts'
import { planned, renamedByHand } from './takein.ts'
import { explain } from './tool.ts'

const init: VerbOf<'init'> = async function* (target, { adopt, filter, from, like }, context) {
  if (like && !words(like.env.COPY_TO).includes(target.name))
    throw new Failure('misuse', '--like is for restic: copies of the engine rsync share their data in any case')
  if (adopt) refuseFilter(filter ?? {}, from)
  const store = storeOf(target)
  const pinned = target.env.STORE_ID
  const found = pinned || context.mode !== 'explain' ? readStore(target) : undefined
  if (pinned) refuseOther(target, pinned, found)
  if (context.mode === 'explain') {
    if (pinned && !adopt) {
      if (!existsSync(rootOf(target))) yield explain(target, ['mkdir', '-p', '-m', '700', rootOf(target)])
      context.log(`'${store}' exists and is pinned: nothing to do`)
      return
    }
    if (adopt) yield explain(target, ['mkdir', '-p', '-m', '700', rootOf(target)])
    else yield* createdByHand(target)
    if (!pinned) yield* pinnedByHand(target, `cat ${quote(storeFile(target))}`)
    if (from === undefined) return
    openStore(target)
    yield* renamedByHand(target, await planned(target, from, filter ?? {}, context))
    return
  }
  const row: StoreRow = { kind: 'store', target: target.name, id: found?.id ?? '', store, created: false }
  const dry = context.mode === 'dry-run' && { dryRun: true as const }
  if (found && !pinned) await refuseClaimed(target)
  if (adopt) {
    if (!found)
      throw new Failure('missing', `cannot adopt '${store}': there is no store`, { hint: `kedge init ${target.name} creates one` })
    if (!dry) await makeRoot(target)
    const taken = await takeIn(target, from, filter ?? {}, context)
    yield { ...row, adopted: from === undefined ? await countOwn(target, context) : taken, ...dry }
    if (!dry && !pinned) await pinStore(target, found.id, context)
    return
  }
  if (found && !pinned)
    throw new Failure('refused', `refusing to use '${store}': a store exists there`, { hint: `kedge init --adopt ${target.name} pins it` })
  if (found) {
    if (!dry) await makeRoot(target)
    context.log(`'${store}' exists and is pinned: nothing to do`)
    yield row
    return
  }
  if (dry) {
    await judgePlace(target)
    yield { ...row, created: true, ...dry }
    return
  }
  const { id } = await createStore(target, context)
  await pinStore(target, id, context)
  yield { ...row, id, created: true }
}
export default init

function refuseOther(target: Target, pinned: string, found: { readonly id: string } | undefined): void {
  const store = storeOf(target)
  if (!found) {
    throw new Failure(
      'refused',
      `refusing to create a store in '${store}': the target is pinned to ${pinned.slice(0, 10)}, which is not there`,
      {
        hint: 'is the disk mounted? Where a new one is meant, remove STORE_ID from its target.env first',
      },
    )
  }
  if (pinned !== found.id)
    throw new Failure('refused', `another store lies in '${store}': its id is ${found.id.slice(0, 10)}, pinned is ${pinned.slice(0, 10)}`)
}

function refuseFilter({ host, paths = [], tags = [] }: SnapshotFilter, from: string | undefined): void {
  const [tag] = tags
  if (tag !== undefined) {
    throw new Failure('misuse', `--tag ${tag} is for restic: in a store of the engine rsync each target has a folder of its own`, {
      hint: `SNAPSHOTS_OF in target.env names the targets whose snapshots are shown`,
    })
  }
  if (from === undefined && (host !== undefined || paths.length > 0))
    throw new Failure('misuse', '--host and --path go with --from: they say what of another tool is taken in')
}

/** Brings to its end what a killed call began, and takes in what lies in `from`. Gives how many snapshots there are more, or would be. */
async function takeIn(target: Target, from: string | undefined, filter: SnapshotFilter, context: RunContext): Promise<number> {
  if (context.mode === 'dry-run') {
    const steps = [...begun(target), ...(from === undefined ? [] : await planned(target, from, filter, context))]
    for (const { id, moving } of steps) context.log(`would take in '${moving.from}' as ${id}`)
    return steps.length
  }
  const lock = await takeStoreLock(target, context, 'init')
  try {
    const found = await goOn(target, lock.context)
    for (const step of from === undefined ? [] : await planned(target, from, filter, context, found.length > 0))
      found.push(await adoptTree(target, step, lock.context))
    removeEmpty(target)
    for (const { id, adopted } of found) context.detail(`took in '${adopted}' as ${id}`)
    return found.length
  } finally {
    await lock.release()
  }
}

/** How many snapshots the target has there; those of others are said. */
async function countOwn(target: Target, context: RunContext): Promise<number> {
  const owners = ownersOf(target)
  const others: { name: string; count: number }[] = []
  for (const { name } of (await readdir(storeOf(target), { withFileTypes: true })).filter((each) => each.isDirectory())) {
    const count = owners.includes(name) ? 0 : countIn(rootOf(target, name))
    if (count > 0) others.push({ name, count })
  }
  const left = others.reduce((sum, { count }) => sum + count, 0)
  if (left > 0) {
    const names = others.map(({ name }) => name).sort()
    context.log(
      `${many(left, 'snapshot is', 'snapshots are')} left out: of ${names.map((name) => `'${name}'`).join(', ')}; ` +
        `SNAPSHOTS_OF='${[...owners, ...names].join(' ')}' shows them`,
    )
  }
  return owners.reduce((sum, owner) => sum + idsIn(rootOf(target, owner)).length, 0)
}

/** None in what another user closed: lost+found, and that user's own targets. */
function countIn(root: string): number {
  try {
    return idsIn(root).length
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return 0
    throw error
  }
}

/** As kedge does it: what marks the store is put there last, and never over another. */
function* createdByHand(target: Target): Generator<CommandLine> {
  const [store, root, file] = [storeOf(target), rootOf(target), storeFile(target)]
  const fresh = quote(join(root, 'kedge-store.json'))
  yield { kind: 'command', command: `[ -d ${quote(store)} ] || mkdir -m 700 ${quote(store)}` }
  yield explain(target, ['mkdir', '-m', '700', root])
  const id = `"$(od -An -tx1 -N32 /dev/urandom | tr -d ' \\n')"`
  yield {
    kind: 'command',
    command: `printf '{"id":"%s","created":"%s"}\\n' ${id} "$(date -u +%Y-%m-%dT%H:%M:%SZ)" > ${fresh}`,
  }
  yield { kind: 'command', command: `ln ${fresh} ${quote(file)} && rm ${fresh}` }
}
