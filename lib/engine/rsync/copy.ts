// Copies of a target's snapshots in second stores: by id, only what is missing there, and both stores known by their pins.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { CommandLine, Copied } from '../../rows.ts'
import { holding, judgeSecond, tellOf } from '../../secondstore.ts'
import { quote } from '../../shell.ts'
import { pick } from '../../snapshots.ts'
import { makeRoot } from './create.ts'
import { copyArgs, kinOf, placeIn, replicate } from './replica.ts'
import { type Found, manifestOf, ownerOf, storedOf, toSnapshot } from './snapshots.ts'
import { openStore, rootOf, storeOf, verifyIdentity } from './store.ts'
import { takeStoreLocks } from './storelock.ts'
import { explain } from './tool.ts'
import { rsyncVersion, type Version } from './version.ts'

/** All that the target shows, the oldest first. */
type First = { target: Target; context: RunContext; snapshots: readonly Found[] }

const copy: VerbOf<'copy'> = async function* (target, { to, faults }, context) {
  if (context.mode === 'explain') {
    for (const { error } of faults) throw error
    const rsync = await rsyncVersion()
    const snapshots = storedOf(target, context).reverse()
    for (const each of to) yield* copiedByHand(snapshots, each, rsync)
    return
  }
  const failed = tellOf(context)
  for (const { store, error } of faults) failed(store, error)
  verifyIdentity(target, context)
  const lock = context.mode === 'act' ? await takeStoreLocks(target, context, 'copy') : undefined
  try {
    const first: First = { target, context: lock?.context ?? context, snapshots: storedOf(target, context).reverse() }
    for (const second of to) {
      try {
        yield await copyTo(first, second)
      } catch (error) {
        failed(second.name, error)
      }
    }
  } finally {
    await lock?.release()
  }
}
export default copy

async function copyTo(first: First, to: Target): Promise<Copied> {
  const { target, context, snapshots } = first
  const row = (copied: number, present: number): Copied => ({ kind: 'copied', target: target.name, to: to.name, copied, present })
  if (context.mode === 'dry-run') {
    const missing = compare(first, to, context)
    return { ...row(missing.length, snapshots.length - missing.length), dryRun: true }
  }
  return await holding(to, {}, context, async (there) => {
    const owners = [...new Set(compare(first, to, there).map(ownerOf))].sort()
    for (const owner of owners) await makeRoot(to, owner)
    const lock = await takeStoreLocks(to, there, 'copy', owners)
    try {
      const missing = missingIn(snapshots, to)
      if (missing.length > 0) {
        context.log(`copying ${missing.length} of ${snapshots.length} snapshots of '${target.name}' to '${to.name}'`)
        const rsync = await rsyncVersion()
        let copied = 0
        for (const found of missing) {
          if (await replicate(to, found, kinOf(found, snapshots), rsync, lock.context)) copied++
          else context.log(`snapshot ${found.id} was pruned meanwhile: it is not copied`)
        }
        return row(copied, snapshots.length - missing.length)
      }
      return row(0, snapshots.length)
    } finally {
      await lock.release()
    }
  })
}

/** Judges the second store, and finds what it lacks. */
function compare({ target, snapshots }: First, to: Target, there: RunContext): Found[] {
  judgeSecond(target, to, there, `kedge init ${to.name}`)
  const { id } = verifyIdentity(to, there)
  if (id === openStore(target).id)
    throw new Failure('config', `cannot copy '${target.name}' to '${to.name}': both have the store '${storeOf(target)}'`)
  return missingIn(snapshots, to)
}

const missingIn = (snapshots: readonly Found[], to: Target): Found[] => snapshots.filter((each) => !existsSync(placeIn(to, each)))

/** As kedge does it: each copy grows in incomplete/, and is renamed when it is whole. */
function* copiedByHand(snapshots: readonly Found[], to: Target, rsync: Version): Generator<CommandLine> {
  openStore(to)
  const missing = missingIn(snapshots, to)
  yield { kind: 'command', command: 'umask 077' }
  for (const found of missing) {
    const kin = kinOf(found, snapshots)
    const root = rootOf(to, ownerOf(found))
    const dir = join(root, 'incomplete', found.id)
    // Those copied before it, here or by an earlier run.
    const before = missing.slice(0, missing.indexOf(found)).map(({ id }) => id)
    const bases = kin.filter((id) => before.includes(id) || existsSync(join(root, 'snapshots', id)))
    const trees = bases.map((id) => join(root, 'snapshots', id, 'tree'))
    yield explain(to, ['mkdir', '-p', join(root, 'snapshots'), dir])
    yield explain(to, copyArgs(to, found, join(dir, 'tree'), trees, rsync))
    const files = [manifestOf(found), join(found.dir, 'snapshot.json'), ...(found.held ? [join(found.dir, 'hold')] : [])]
    yield explain(to, ['cp', '-p', ...files, dir])
    yield { kind: 'command', command: `sync && mv ${quote(dir)} ${quote(placeIn(to, found))}` }
  }
  for (const owner of new Set(missing.map(ownerOf))) {
    const rows = snapshots.filter((each) => ownerOf(each) === owner).map((each) => toSnapshot(owner, each))
    const newest = pick(rows.reverse(), { name: owner, engine: 'rsync' }, 'latest')
    const link = quote(join(rootOf(to, owner), 'latest'))
    yield { kind: 'command', command: `rm -f ${link} && ln -s ${quote(join('snapshots', newest.id))} ${link}` }
  }
}
