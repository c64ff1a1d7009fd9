// Check: structure and manifest always, the content when asked: all of it, or the slices that are due so that all is read every so often.
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { checked, judgeOptions, partsNow, readAll } from '../../checking.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { checkByHand } from './checkbyhand.ts'
import { contentReader } from './content.ts'
import { newestIn } from './publish.ts'
import { type Found, idPattern, idsIn, readStored } from './snapshots.ts'
import { ownersOf, rootOf, storeOf, verifyIdentity } from './store.ts'
import { faultsIn } from './structure.ts'

/** Faults that are told one by one: the first ones say what is the matter. */
const most = 10_000

type Tell = (fault: string) => void

const check: VerbOf<'check'> = async function* (target, options, context) {
  judgeOptions(options)
  if (context.mode === 'explain') {
    yield* checkByHand(target, await partsNow(target, options))
    return
  }
  const { id: store } = verifyIdentity(target, context, 'check')
  const faults = new Set<string>()
  const tell: Tell = (fault) => {
    if (faults.has(fault)) return
    if (faults.size < most) context.log(fault)
    faults.add(fault)
  }
  const roots = ownersOf(target).map((owner) => rootOf(target, owner))
  const snapshots = roots.flatMap((root) => foundIn(root, tell, context)).sort((a, b) => (a.time < b.time ? -1 : 1))
  let files = 0
  for (const [index, found] of snapshots.entries()) {
    const counted = (n: number) => {
      files += n
      context.progress({ done: index, total: snapshots.length, unit: 'snapshots', files })
    }
    await judge(found, faultsIn(found, context, counted), tell, context)
  }
  for (const root of roots) judgeLatest(root, tell, context)
  // The oldest first: what is shared is told of the snapshot that it came with.
  const done = await readAll(target, store, options, async (part, what) => {
    const faultsOf = contentReader(part, context, what)
    let whole = true
    for (const found of snapshots) if (!(await judge(found, faultsOf(found), tell, context))) whole = false
    return whole
  })
  if (faults.size > 0) throw damaged(target, [...faults])
  yield checked(target, done)
}
export default check

/** Those that say what they are. */
function foundIn(root: string, tell: Tell, context: RunContext): Found[] {
  const strangers = existsSync(join(root, 'snapshots')) ? readdirSync(join(root, 'snapshots')).filter((name) => !idPattern.test(name)) : []
  for (const name of strangers) context.warn(`'${join(root, 'snapshots', name)}' is no snapshot: it is left alone`)
  return idsIn(root).flatMap((id) => {
    try {
      return readStored(join(root, 'snapshots', id)) ?? []
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      tell(error.message)
      return []
    }
  })
}

/** Tells the faults of a snapshot; whether there are none. One that another host's prune takes away meanwhile has none. */
async function judge(found: Found, faults: AsyncIterable<string>, tell: Tell, context: RunContext): Promise<boolean> {
  const said: string[] = []
  try {
    for await (const fault of faults) if (said.push(fault) >= most) break
  } catch (error) {
    context.signal.throwIfAborted()
    if (existsSync(found.dir)) throw error
  }
  if (!existsSync(found.dir)) return true
  for (const fault of said) tell(`snapshot ${found.id}: ${fault}`)
  return said.length === 0
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
  else tell(fault)
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

function damaged(target: Target, faults: readonly string[]): Failure {
  const more = faults.length > 3 ? `; and ${faults.length - 3} more` : ''
  return new Failure('damaged', `store '${storeOf(target)}' is damaged: ${faults.slice(0, 3).join('; ')}${more}`, {
    hint:
      'do not prune; what is the same in other snapshots is damaged there too: touch it at its source, so that the next backup saves it anew; ' +
      `'kedge forget ${target.name} ID' takes a damaged snapshot away`,
  })
}
