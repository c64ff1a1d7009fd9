// One snapshot copied into another store, with the links that it has to those copied before.
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { batches } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { parseSize, shortId } from '../../format.ts'
import { hasNanoseconds, mostBases } from './argv.ts'
import { detoursOf, unchecked } from './detour.ts'
import { entryAt } from './entry.ts'
import { failureOf } from './errors.ts'
import { keepsFractions } from './fractions.ts'
import { pathBytes, readManifest } from './manifest.ts'
import { mayBeUnnamed, type Overlong, overlong, tellTooLong } from './overlong.ts'
import { publish } from './publish.ts'
import { removeAside, setAside } from './removal.ts'
import { placeRule, type Rule, rulesFile } from './rules.ts'
import { type Found, manifestOf, ownerOf, type Stored, treeOf } from './snapshots.ts'
import { rootOf, storeOf } from './store.ts'
import { startTool } from './tool.ts'
import type { Version } from './version.ts'

/** Where it lies in another store, or would. */
export const placeIn = (to: Target, found: Pick<Found, 'dir' | 'id'>): string => join(rootOf(to, ownerOf(found)), 'snapshots', found.id)

/**
 * The snapshots whose copies may share files with this one's, the likeliest first: those that it was made from, the one before it, and
 * the one after, which is there alone where the older ones were pruned. By id. `snapshots`: the oldest first, other owners' too.
 */
export function kinOf(found: Found, snapshots: readonly Found[]): string[] {
  const kin = snapshots.filter((each) => ownerOf(each) === ownerOf(found) && each.stream === found.stream)
  const at = kin.findIndex(({ id }) => id === found.id)
  return [...new Set([found.base, ...found.bases, kin[at - 1]?.id, kin[at + 1]?.id])].filter((id): id is string => typeof id === 'string')
}

/**
 * A copy as it is: what rsync --fake-super wrote into attributes is copied literally (-XX), and read by nobody. A file that was cut off is
 * begun again: whole files are what a local rsync writes.
 */
export function copyArgs(to: Target, found: Pick<Found, 'dir' | 'fake'>, tree: string, bases: readonly string[], rsync: Version): string[] {
  const limit = parseSize(to.env.LIMIT_UP ?? '')
  return [
    'rsync',
    found.fake ? '-aHASXX' : '-aHAXS',
    '--numeric-ids',
    ...(keepsFractions(storeOf(to)) && hasNanoseconds({ here: rsync, there: undefined }) ? ['--modify-window=-1'] : []),
    ...(limit ? [`--bwlimit=${Math.max(1, Math.round(limit / 1024))}`] : []),
    ...bases.slice(0, mostBases).map((base) => `--link-dest=${base}`),
    '--',
    `${treeOf(found)}/`,
    `${tree}/`,
  ]
}

/** What lies beside a snapshot's manifest and not every one has. */
export const besidesIn = (found: Found): string[] => ['hashes', 'hold'].filter((name) => existsSync(join(found.dir, name)))

/** Copies it, and publishes the copy, linked to those of `kin` (ids) that are there. False where it was pruned meanwhile. The caller holds the locks of both stores. */
export async function replicate(to: Target, found: Found, kin: readonly string[], rsync: Version, context: RunContext): Promise<boolean> {
  const root = rootOf(to, ownerOf(found))
  const dir = join(root, 'incomplete', found.id)
  for (const folder of ['snapshots', 'incomplete']) await mkdir(join(root, folder), { recursive: true, mode: 0o700 })
  await mkdir(dir, { recursive: true, mode: 0o700 })
  let cuts = await asideCuts(dir)
  const tree = join(dir, 'tree')
  const copies = kin.map((id) => join(root, 'snapshots', id, 'tree'))
  const bases = [...cuts, ...copies.filter((base) => existsSync(base))]
  const action = `copy snapshot ${shortId(found.id)} to '${storeOf(to)}'`
  const file = join(dir, 'rules')
  const send = async (linked: readonly string[], rules: readonly Rule[]) => {
    if (rules.length > 0) await writeFile(file, rulesFile(rules), { mode: 0o600 })
    const [program = '', ...rest] = copyArgs(to, found, tree, linked, rsync)
    const left = rules.length > 0 ? ['--from0', `--exclude-from=${file}`] : []
    await transfer(to, [program, ...unchecked(rsync), ...left, ...rest], action, found, context)
    await rm(file, { force: true })
  }
  let long: Overlong | undefined
  try {
    await sent().catch(unlessPruned(found))
    if (existsSync(found.dir)) await compare(found, tree, action)
  } catch (error) {
    // What is damaged is copied no better by the next run: that begins anew once it is mended.
    if (error instanceof Failure && error.class === 'damaged') await discard()
    throw error
  }
  const gone = !existsSync(found.dir)
  if (!gone) {
    for (const name of ['manifest', ...besidesIn(found)]) await copyFile(join(found.dir, name), join(dir, name))
    for (const cut of cuts) await setAside(root, cut)
    await publish(to, root, dir, JSON.parse(await readFile(join(found.dir, 'snapshot.json'), 'utf8')) as Stored, context)
    tellTooLong(join(found.dir, '../../..'), found.id, long?.unnamed ?? [], context)
    tellTooLong(storeOf(to), found.id, long?.named ?? [], context)
    await removeAside(to, root, context)
  } else await discard()
  return !gone

  async function sent(): Promise<void> {
    const linked = bases.slice(0, mostBases)
    long = await overlong(found, join(placeIn(to, found), 'tree'))
    const { rules } = long
    const detours = without(await detoursOf(manifestOf(found), linked))
    await send(linked, [...detours, ...rules])
    if (detours.length === 0) return
    // At no time does anything from behind a link lie in the tree: what is linked to the first part alone comes whole.
    cuts = await asideCuts(dir)
    await send(cuts.slice(0, 1), rules)
  }

  async function discard(): Promise<void> {
    await setAside(root, dir)
    await removeAside(to, root, context)
  }
}

/**
 * What a run that was cut off had copied is linked to from a fresh tree, and not gone on with: rsync would set modes and times on files
 * that other snapshots share. The newest first.
 */
async function asideCuts(dir: string): Promise<string[]> {
  const numbers = (await readdir(dir)).flatMap((name) => (/^cut-\d+$/.test(name) ? [Number(name.slice('cut-'.length))] : []))
  numbers.sort((a, b) => b - a)
  if (existsSync(join(dir, 'tree'))) {
    const next = (numbers[0] ?? 0) + 1
    await rename(join(dir, 'tree'), join(dir, `cut-${next}`))
    numbers.unshift(next)
  }
  for (const name of ['manifest', 'snapshot.json', 'hashes', 'hold', 'rules']) await rm(join(dir, name), { force: true })
  return numbers.map((number) => join(dir, `cut-${number}`))
}

/** rsync compares each path with each rule. */
const mostRules = 1000

/** The rules that leave these folders out: where they are too many, the folders above them, and all of the tree at last. */
function without(folders: ReadonlySet<string>): Rule[] {
  let left = folders
  while (left.size > mostRules && !left.has('')) left = new Set([...left].map((path) => path.slice(0, Math.max(0, path.lastIndexOf('/')))))
  return left.has('') ? ['- /*'] : [...left].map((path) => placeRule(pathBytes(path)))
}

/** A prune of somebody who does not hold the lock: a snapshot that is not there any more needs no copy. */
const unlessPruned = (found: Found) => (error: unknown) => {
  if (!(error instanceof Failure) || existsSync(found.dir)) throw error
}

/** A file or a folder of the first store that its disk does not give; the sender reads. Before 3.2 rsync does not tell who speaks. */
const unread = /(?:\[sender\]|read errors mapping).*: Input\/output error/

async function transfer(to: Target, args: readonly string[], action: string, found: Found, context: RunContext): Promise<void> {
  const [rsync = '', ...rest] = args
  const child = startTool(to, [rsync, '--out-format=%l', ...rest], context)
  try {
    let [done, files] = [0, 0]
    for await (const lines of child.stdout ? batches(child.stdout) : []) {
      for (const size of lines) done += Number(size)
      files += lines.length
      context.progress({ done, files, what: shortId(found.id) })
    }
    const exit = await child.done
    if (exit.status === 0) return
    const failure = failureOf(action, exit, { remote: false })
    if (!unread.test(exit.stderr)) throw failure
    throw new Failure('damaged', failure.message, { hint: `the disk under '${found.dir}' cannot be read: look at the system's log` })
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}

/**
 * The copy has as many folders, and as many other entries, as the manifest names, but for too long paths; and its owners are
 * those whom we may give files to.
 */
async function compare(found: Found, tree: string, action: string): Promise<void> {
  const wanted = { files: 0, folders: 0 }
  const [me, owners] = [process.geteuid?.(), new Set<number>()]
  for await (const lines of readManifest(manifestOf(found))) {
    for (const { path, type, uid } of lines) {
      if (path !== '.' && !mayBeUnnamed(found, entryAt(tree, path))) wanted[type === 'd' ? 'folders' : 'files']++
      owners.add(uid)
    }
  }
  if (me !== 0 && !found.fake && [...owners].some((uid) => uid !== me))
    throw new Failure('permission', `cannot ${action}: its files belong to several users`, { hint: 'only root can give files to others' })
  const there = { files: 0, folders: 0 }
  await count(found, Buffer.from(tree), there)
  if (there.files === wanted.files && there.folders === wanted.folders) return
  const told = (each: typeof wanted) => `${each.folders} folders and ${each.files} files`
  throw new Failure('damaged', `cannot ${action}: its manifest names ${told(wanted)}, its tree has ${told(there)}`, {
    hint: 'kedge check tells which',
  })
}

const slash = Buffer.from('/')

async function count(found: Found, folder: Buffer, into: { files: number; folders: number }): Promise<void> {
  for (const entry of await readdir(folder, { encoding: 'buffer', withFileTypes: true })) {
    const at = Buffer.concat([folder, slash, entry.name as Buffer])
    if (mayBeUnnamed(found, at)) continue
    into[entry.isDirectory() ? 'folders' : 'files']++
    if (entry.isDirectory()) await count(found, at, into)
  }
}
