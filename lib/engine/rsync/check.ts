// Check: structure and manifest always, the content when asked: all of it, or the slices that are due so that all is read every so often.
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { checked, judgeOptions, partsNow, readAll } from '../../checking.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { field, many } from '../../format.ts'
import type { Checked } from '../../rows.ts'
import { checkByHand } from './checkbyhand.ts'
import { type Closed, closedIn } from './closed.ts'
import { type ContentReader, contentReader, goodCopy, type Readers } from './content.ts'
import { lostOf } from './lost.ts'
import { shownPath } from './manifest.ts'
import { newestIn } from './publish.ts'
import { refusalOf, wordsOf } from './refusal.ts'
import { type Found, idPattern, idsIn, readStored } from './snapshots.ts'
import { ownersOf, rootOf, storeOf, verifyIdentity } from './store.ts'
import { faultsIn, type Hearing } from './structure.ts'

/** Faults that are kept of one snapshot. */
const most = 10_000
/** So many of one snapshot, or of the content, are told: the first ones say what is the matter. */
const mostTold = 20

/** What a fault is of: saved files; the notes on a snapshot, without which no command reads it; a copy made by hand; the link `latest`. */
type Of = 'files' | 'notes' | 'copy' | 'link'
/** `stands`: for so many faults. */
type Tell = (fault: string, of: Of, stands?: number) => void

const check: VerbOf<'check'> = async function* (target, options, context) {
  judgeOptions(options)
  if (context.mode === 'explain') {
    yield* checkByHand(target, await partsNow(target, options))
    return
  }
  const { id: store } = verifyIdentity(target, context, 'check')
  const faults = new Set<string>()
  const kinds = new Set<Of>()
  let total = 0
  const tell: Tell = (fault, of, stands = 1) => {
    if (faults.has(fault)) return
    context.log(fault)
    faults.add(fault)
    kinds.add(of)
    total += stands
  }
  const shut = closedIn(context)
  const roots = ownersOf(target).map((owner) => rootOf(target, owner))
  const snapshots = roots.flatMap((root) => foundIn(root, tell, shut, context)).sort((a, b) => (a.time < b.time ? -1 : 1))
  tellLost(target, await lostOf(target), context)
  const bare = new Map<Found, number>()
  let tooLong: string | undefined
  let long = 0
  let [files, regular] = [0, 0]
  for (const [index, found] of snapshots.entries()) {
    const hearing: Hearing = {
      counted(n) {
        files += n
        context.progress({ done: index, total: snapshots.length, unit: 'snapshots', files })
      },
      file(known) {
        regular++
        if (!known) bare.set(found, (bare.get(found) ?? 0) + 1)
      },
      closed: (what) => shut.add(found, what),
      tooLong(path) {
        tooLong ??= `${found.id}: ${field(shownPath(path))}`
        long++
      },
    }
    await judge(found, faultsIn(target, found, context, hearing), tell, context)
  }
  for (const root of roots) judgeLatest(root, tell, context)
  let [noted, unwritable] = [0, '']
  const readers: Readers = {
    bare: (found) => bare.has(found),
    closed: shut.add,
    unwritable(found, error) {
      unwritable ||= `they cannot be written to '${found.dir}': ${wordsOf(error)}`
    },
    noted(n) {
      noted += n
    },
  }
  // The oldest first: what is shared is read in the snapshot that it came with.
  const done = await readAll(target, store, options, async (part, what) => {
    const reader = contentReader(part, context, readers, what)
    let whole = true
    for (const found of snapshots) if (!(await unlessGone(found, () => readContent(reader, found), true, context))) whole = false
    await tellContent(reader, snapshots, tell, context)
    return whole
  })
  const unhashed = [...bare.values()].reduce((sum, each) => sum + each, 0)
  if (unhashed > 0) context.warn(`${many(unhashed, 'file has', 'files have')} no hash: ${fateOf(unhashed, noted, unwritable)}`)
  if (tooLong !== undefined)
    context.warn(`${many(long, 'entry was', 'entries were')} not looked at, as the path is too long for this store: ${tooLong}`, 'partial')
  if (faults.size > 0) throw damaged(target, [...faults], total, kinds)
  shut.judge(target)
  yield truly(checked(target, done), unhashed, regular)
}
export default check

/** What becomes of files without a hash: `noted` of them have one from now on; `unwritable`: why no others. */
function fateOf(unhashed: number, noted: number, unwritable: string): string {
  const left = unhashed - noted
  const lost = 'their content is not compared'
  if (left === 0) return 'it is written down now, and their content is compared from the next time on'
  if (unwritable !== '') return `${lost}: ${unwritable}`
  if (noted > 0) return `it is written down now for ${noted} of them, whose content is compared from the next time on`
  return `${lost}: kedge check --read-data writes it down`
}

/** Nothing was compared with the content of files that have no hash, though it was read. `regular`: all files. */
function truly(row: Checked, unhashed: number, regular: number): Checked {
  if (unhashed === 0) return row
  const share = (row.verified ?? 0) * (1 - unhashed / regular)
  return { ...row, verified: Math.floor(share * 1000) / 1000, unhashed }
}

/** Those that say what they are. */
function foundIn(root: string, tell: Tell, shut: Closed, context: RunContext): Found[] {
  const strangers = existsSync(join(root, 'snapshots')) ? readdirSync(join(root, 'snapshots')).filter((name) => !idPattern.test(name)) : []
  for (const name of strangers) context.warn(`'${join(root, 'snapshots', name)}' is no snapshot: it is left alone`)
  return idsIn(root).flatMap((id) => {
    try {
      return readStored(join(root, 'snapshots', id)) ?? []
    } catch (error) {
      const kind = refusalOf(error)
      if (kind === 'permission') shut.add({ id }, `its snapshot.json cannot be read: ${wordsOf(error)}`)
      else if (kind === 'damaged') tell(`snapshot ${id}: its snapshot.json cannot be read: ${wordsOf(error)}`, 'notes')
      else if (error instanceof Failure) tell(error.message, / is a copy of /.test(error.message) ? 'copy' : 'notes')
      else throw error
      return []
    }
  })
}

/** One that another host's prune takes away meanwhile has no faults. */
async function unlessGone<T>(found: Found, read: () => Promise<T>, gone: T, context: RunContext): Promise<T> {
  try {
    const result = await read()
    if (existsSync(found.dir)) return result
  } catch (error) {
    context.signal.throwIfAborted()
    if (existsSync(found.dir)) throw error
  }
  return gone
}

async function judge(found: Found, faults: AsyncIterable<string>, tell: Tell, context: RunContext): Promise<void> {
  const collect = async () => {
    const said: string[] = []
    for await (const fault of faults) if (said.push(fault) >= most) break
    return said
  }
  const named = `snapshot ${found.id}: `
  const said = await unlessGone(found, collect, [], context)
  const unread = said.filter((fault) => /^(its manifest |cannot read ')/.test(fault))
  for (const fault of unread) tell(`${named}${fault}`, 'notes')
  tellFirst(
    said.filter((fault) => !unread.includes(fault)).map((fault) => `${named}${fault}`),
    (more) => `${named}and ${more} more: -v names them`,
    tell,
    context,
  )
}

function tellFirst(faults: readonly string[], rest: (more: string) => string, tell: Tell, context: RunContext): void {
  for (const fault of faults.slice(0, mostTold)) tell(fault, 'files')
  const others = faults.slice(mostTold)
  for (const fault of others) context.detail(fault)
  if (others.length > 0) tell(rest(`${others.length}${faults.length < most ? '' : ' or'}`), 'files', others.length)
}

/** Whether it is whole. Of a manifest that cannot be read the structure has told. */
async function readContent(reader: ContentReader, found: Found): Promise<boolean> {
  try {
    return await reader.read(found)
  } catch (error) {
    if ((error instanceof Failure && error.class === 'damaged') || refusalOf(error) !== undefined) return false
    throw error
  }
}

/** Each damaged file once: which snapshots have it, and where its path has a good one. */
async function tellContent({ spoiled }: ContentReader, snapshots: readonly Found[], tell: Tell, context: RunContext): Promise<void> {
  const faults: string[] = []
  for (const each of spoiled()) {
    const of = each.of.filter(({ dir }) => existsSync(dir))
    const [first, ...others] = of.map(({ id }) => id)
    if (first === undefined) continue
    const shared = others.length > 0 ? `; the same file in ${listed(others)}` : ''
    // A look into each snapshot for each file that is told, and not for those that -v names.
    const good = faults.length < mostTold ? await goodCopy(each, snapshots) : undefined
    const elsewhere =
      faults.length < mostTold ? `; ${good ? `the newest good one of that path: ${good.id}` : 'no good one of that path'}` : ''
    faults.push(`snapshot ${first}: ${field(shownPath(each.path))}: ${each.why}${shared}${elsewhere}`)
  }
  tellFirst(faults, (more) => `the content of ${more} more files changed: -v names them`, tell, context)
}

const listed = (ids: readonly string[]): string => {
  const more = ids.length - mostTold
  return `${ids.slice(0, mostTold).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/**
 * `latest` is what the commands mean by it. A backup may end meanwhile: then the second look finds it right. One that was killed between
 * its last two steps leaves the link behind, with nothing wrong with what it saved.
 */
function judgeLatest(root: string, tell: Tell, context: RunContext): void {
  const link = join(root, 'latest')
  const look = () => {
    const newest = newestIn(root, { warn: () => undefined })
    return [linkOf(link) ?? 'missing', newest === undefined ? 'missing' : `snapshots/${newest}`]
  }
  const right = ([now, wanted]: string[]) => now === wanted
  if (right(look())) return
  const [now = '', wanted] = look()
  if (now === wanted) return
  const fault = `'${link}' is ${now}, should be ${wanted}`
  if (now === 'missing' || idsIn(root).some((id) => now === `snapshots/${id}`)) context.warn(`${fault}: the next backup sets it right`)
  else tell(fault, 'link')
}

function linkOf(link: string): string | undefined {
  try {
    return readlinkSync(link)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EINVAL') return 'no link'
    if (code === 'ENOENT') return undefined
    throw error
  }
}

/** Nothing of what lies there is damaged: but somebody else than kedge took snapshots away. */
function tellLost(target: Target, lost: readonly string[], context: RunContext): void {
  if (lost.length === 0) return
  const more = lost.length > 5 ? ` and ${lost.length - 5} more` : ''
  context.warn(
    `snapshots that runs made are gone: ${lost.slice(0, 5).join(', ')}${more}; neither prune nor forget of '${target.name}' took them`,
  )
}

function damaged(target: Target, faults: readonly string[], total: number, kinds: ReadonlySet<Of>): Failure {
  const more = total > 3 ? `; and ${total - 3} more` : ''
  return new Failure('damaged', `store '${storeOf(target)}' is damaged: ${faults.slice(0, 3).join('; ')}${more}`, {
    hint: remedies(target, kinds).join('; '),
  })
}

const remedies = ({ name }: Target, kinds: ReadonlySet<Of>): string[] => [
  'do not prune',
  ...(kinds.has('copy') ? ['move a copy that was made by hand out of snapshots'] : []),
  ...(kinds.has('link') ? ['remove latest: the next backup makes it again'] : []),
  ...(kinds.has('notes') ? ['a snapshot whose snapshot.json or manifest cannot be read still has its files, in its folder tree'] : []),
  ...(kinds.has('files') ? ['touch each damaged file at its source, so that the next backup transfers it again'] : []),
  ...(kinds.has('files') || kinds.has('notes') ? [`then 'kedge forget ${name} ID...' takes the damaged snapshots away`] : []),
]
