// Taking snapshots and unfinished trees away: noted in the audit, renamed aside, then removed while the run goes on.
import { existsSync, readlinkSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { readMarks, unmarked, writeMarks } from '../../marks.ts'
import type { CommandLine, Snapshot } from '../../rows.ts'
import { comment, quote } from '../../shell.ts'
import { pick } from '../../snapshots.ts'
import { note } from './audit.ts'
import { renewLatest } from './publish.ts'
import { removeAside, setAside } from './removal.ts'
import type { Found } from './snapshots.ts'
import { ownersOf, rootOf, storeOf } from './store.ts'

/** `dir`: snapshots/ID or incomplete/ID of a target's folder. */
export type Doomed = { readonly id: string; readonly dir: string; readonly reason: string }

const rootOfTree = (dir: string): string => dirname(dirname(dir))

/**
 * Takes trees away, in the order given; the caller holds the locks. They are gone from the lists when it returns; `gone` is when they are
 * removed from the disk, with what a killed run had left to remove.
 */
export async function takeAway(
  target: Target,
  doomed: readonly Doomed[],
  action: 'prune' | 'forget',
  context: RunContext,
): Promise<{ gone: Promise<void> }> {
  const roots = ownersOf(target)
    .map((owner) => rootOf(target, owner))
    .filter((root) => existsSync(root))
  const done: string[] = []
  try {
    for (const { id, dir, reason } of doomed) {
      context.signal.throwIfAborted()
      const root = rootOfTree(dir)
      note(root, { id, action, reason, path: relative(storeOf(target), dir) }, context)
      await setAside(root, dir)
      done.push(id)
      context.log(`${action === 'prune' ? 'pruned' : 'forgot'} ${id}: ${reason}`)
      context.progress({ done: done.length, total: doomed.length, unit: 'snapshots' })
    }
  } catch (error) {
    await settle(target, doomed, done)
    throw error
  }
  const gone = Promise.all(roots.map((root) => removeAside(target, root, context))).then(() => undefined)
  gone.catch(() => undefined) // told to whoever awaits it
  try {
    await settle(target, doomed, done)
  } catch (error) {
    await gone.catch(() => undefined) // the lock is held until then
    throw error
  }
  return { gone }
}

/** What names a snapshot that is gone: the link to the newest, the marks. */
async function settle(target: Target, doomed: readonly Doomed[], done: readonly string[]): Promise<void> {
  // Broken ones were warned of when the snapshots were read.
  for (const root of new Set(doomed.map(({ dir }) => rootOfTree(dir)))) await renewLatest(root, { warn: () => undefined })
  const marks = await readMarks(target.name)
  const cleaned = unmarked(
    marks,
    done.flatMap((id) => [id, id.slice(id.lastIndexOf('/') + 1)]),
  )
  if (cleaned !== marks) await writeMarks(target.name, cleaned)
}

/** What kedge looks at and notes, and mv does not. */
export const refusalsByHand = (): CommandLine =>
  comment("kedge refuses a held snapshot, the newest good one of a source and one with another target's tag: mv does not")

/** The same by hand. `read`: the target's snapshots, the newest first, and where each lies. */
export function* byHand(
  target: Target,
  doomed: readonly Doomed[],
  read: { readonly rows: readonly Snapshot[]; readonly of: (row: Snapshot) => Found },
): Generator<CommandLine> {
  const going = new Set(doomed.map(({ dir }) => dir))
  const line = (text: string): CommandLine => ({ kind: 'command', command: text })
  for (const root of new Set(doomed.map(({ dir }) => rootOfTree(dir)))) {
    const [own, aside] = [doomed.filter(({ dir }) => rootOfTree(dir) === root), join(root, 'deleting')]
    yield comment(`kedge holds the lock in ${root}/lock meanwhile, and notes each removal in ${root}/audit.ndjson`)
    yield line(`mkdir -p ${quote(aside)}`)
    for (const { dir, reason } of own) {
      yield comment(`${basename(dir)}: ${reason}`)
      yield line(`mv ${quote(dir)} ${quote(join(aside, basename(dir)))}`)
    }
    const last = latestOf(root)
    if (own.some(({ dir }) => basename(dir) === last)) {
      const there = read.rows.filter((row) => rootOfTree(read.of(row).dir) === root && !going.has(read.of(row).dir))
      const link = quote(join(root, 'latest'))
      yield line(there.length === 0 ? `rm -f ${link}` : `ln -sfn ${quote(`snapshots/${pick(there, target, 'latest').id}`)} ${link}`)
    }
    yield line(`rm -rf ${own.map(({ dir }) => quote(join(aside, basename(dir)))).join(' ')}`)
  }
}

function latestOf(root: string): string | undefined {
  try {
    return basename(readlinkSync(join(root, 'latest')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
