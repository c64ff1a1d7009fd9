// Copies of a target's snapshots in second stores: by id, only what is missing there, and both stores known by their pins.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { shortId } from '../../format.ts'
import type { CommandLine, Copied } from '../../rows.ts'
import { holding, judgeSecond, tellOf } from '../../secondstore.ts'
import { comment, quote } from '../../shell.ts'
import { pick } from '../../snapshots.ts'
import { mostBases } from './argv.ts'
import { detourNote, detourTest } from './backupbyhand.ts'
import { makeRoot } from './create.ts'
import { besidesIn, copyArgs, kinOf, placeIn, replicate } from './replica.ts'
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
        yield await copyTo(first, second, (error) => failed(second.name, error))
      } catch (error) {
        failed(second.name, error)
      }
    }
  } finally {
    await lock?.release()
  }
}
export default copy

/** What becomes of one snapshot keeps the others from nothing: `tell` names it. */
async function copyTo(first: First, to: Target, tell: (error: unknown) => void): Promise<Copied> {
  const { target, context, snapshots } = first
  const row = (copied: number, { missing, strange }: Compared, left: readonly Found[]): Copied => {
    const present = snapshots.length - missing.length - strange.length
    const [oldest] = left.toSorted((a, b) => (a.time < b.time ? -1 : 1))
    return { kind: 'copied', target: target.name, to: to.name, copied, present, ...(oldest && { left: left.length, since: oldest.time }) }
  }
  if (context.mode === 'dry-run') {
    const found = compare(first, to, context)
    for (const each of found.strange) tell(strangeIn(to, each))
    return { ...row(found.missing.length, found, found.strange), dryRun: true }
  }
  return await holding(target, to, {}, context, async (there) => {
    const owners = [...new Set(compare(first, to, there).missing.map(ownerOf))].sort()
    for (const owner of owners) await makeRoot(to, owner)
    const lock = await takeStoreLocks(to, there, 'copy', owners)
    try {
      const found = missingIn(snapshots, to)
      const { missing, strange } = found
      for (const each of strange) tell(strangeIn(to, each))
      const left = [...strange]
      const own = snapshots.filter((each) => !strange.includes(each)) // a copy shares no file with another host's
      if (missing.length === 0) return row(0, found, left)
      context.log(`copying ${missing.length} of ${snapshots.length} snapshots of '${target.name}' to '${to.name}'`)
      const rsync = await rsyncVersion()
      let copied = 0
      for (const each of missing) {
        try {
          if (await replicate(to, each, kinOf(each, own), rsync, lock.context)) copied++
          else context.log(`snapshot ${each.id} was pruned meanwhile: it is not copied`)
        } catch (error) {
          if (!(error instanceof Failure) || error.class !== 'damaged') throw error
          tell(error)
          left.push(each)
        }
      }
      return row(copied, found, left)
    } finally {
      await lock.release()
    }
  })
}

/** Judges the second store, and finds what it lacks. */
function compare({ target, snapshots }: First, to: Target, there: RunContext): Compared {
  judgeSecond(target, to, there, `kedge init ${to.name}`)
  const { id } = verifyIdentity(to, there)
  if (id === openStore(target).id)
    throw new Failure('config', `cannot copy '${target.name}' to '${to.name}': both have the store '${storeOf(target)}'`)
  return missingIn(snapshots, to)
}

/** `strange`: those whose id another snapshot has there, as two targets of one name on two machines make it. */
type Compared = { readonly missing: readonly Found[]; readonly strange: readonly Found[] }

function missingIn(snapshots: readonly Found[], to: Target): Compared {
  const there = snapshots.filter((each) => existsSync(placeIn(to, each)))
  return { missing: snapshots.filter((each) => !there.includes(each)), strange: there.filter((each) => !isCopy(each, placeIn(to, each))) }
}

/** snapshot.json never changes, and a copy has it byte for byte. */
function isCopy({ dir }: Found, place: string): boolean {
  const [own, theirs] = [dir, place].map((folder) => {
    try {
      return readFileSync(join(folder, 'snapshot.json'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return undefined
    }
  })
  return own === undefined || (theirs !== undefined && own.equals(theirs)) // it was pruned meanwhile
}

function strangeIn(to: Target, found: Found): Failure {
  const action = `cannot copy snapshot ${shortId(found.id)} to '${storeOf(to)}'`
  const place = placeIn(to, found)
  if (existsSync(join(place, 'snapshot.json')))
    return new Failure('refused', `${action}: another snapshot has its id there`, {
      hint: 'two machines with a target of one name need a second store each, or kedge rename',
    })
  return new Failure('damaged', `${action}: '${place}' has no snapshot.json`, { hint: 'move it away, and it is copied again' })
}

/** As kedge does it: each copy grows in incomplete/, and is renamed when it is whole. */
function* copiedByHand(snapshots: readonly Found[], to: Target, rsync: Version): Generator<CommandLine> {
  openStore(to)
  const { missing, strange } = missingIn(snapshots, to)
  for (const { id } of strange) yield comment(`another snapshot has the id ${id} in '${storeOf(to)}': it is not copied`)
  yield { kind: 'command', command: 'umask 077' }
  for (const found of missing) {
    const kin = kinOf(
      found,
      snapshots.filter((each) => !strange.includes(each)),
    )
    const root = rootOf(to, ownerOf(found))
    const dir = join(root, 'incomplete', `by-hand-${found.id}`) // nothing that a later copy goes on from
    // Those copied before it, here or by an earlier run.
    const before = missing.slice(0, missing.indexOf(found)).map(({ id }) => id)
    const bases = kin.filter((id) => before.includes(id) || existsSync(join(root, 'snapshots', id)))
    const trees = bases.map((id) => join(root, 'snapshots', id, 'tree'))
    yield explain(to, ['mkdir', '-p', join(root, 'snapshots'), dir])
    yield explain(to, copyArgs(to, found, join(dir, 'tree'), trees, rsync))
    const files = [manifestOf(found), join(found.dir, 'snapshot.json'), ...besidesIn(found).map((name) => join(found.dir, name))]
    yield explain(to, ['cp', '-p', ...files, dir])
    const test = trees.length === 0 ? '' : `${detourTest(trees.slice(0, mostBases), quote(join(dir, 'tree')))} && `
    if (test !== '') yield detourNote
    yield { kind: 'command', command: `${test}sync && mv ${quote(dir)} ${quote(placeIn(to, found))}` }
  }
  for (const owner of new Set(missing.map(ownerOf))) {
    const rows = snapshots.filter((each) => ownerOf(each) === owner).map((each) => toSnapshot(owner, each))
    const newest = pick(rows.reverse(), { name: owner, engine: 'rsync' }, 'latest')
    const link = quote(join(rootOf(to, owner), 'latest'))
    yield { kind: 'command', command: `rm -f ${link} && ln -s ${quote(join('snapshots', newest.id))} ${link}` }
  }
}
