// Which bases may be linked to. What an unfinished tree was linked to is written down beside it, since where a link became a folder it holds
// files from behind the link until the run's end, and a run that was killed has no end.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Bases } from './bases.ts'
import { detoursOf, leadsAway } from './detour.ts'
import { latinLines } from './latin.ts'
import { escapePath } from './manifest.ts'
import { manifestOf, treeOf } from './snapshots.ts'
import { startTool } from './tool.ts'

const fileIn = (dir: string): string => join(dir, 'bases')

/** Before rsync begins: `trees`, absolute, is what it links to. */
export const noteOrigin = (dir: string, trees: readonly string[]): void =>
  writeFileSync(fileIn(dir), JSON.stringify(trees.map((tree) => relative(dir, tree))), { mode: 0o600 })

/** Undefined where it is not known: rsync had not begun, or the disk was full. */
function originOf(dir: string): string[] | undefined {
  try {
    return (JSON.parse(readFileSync(fileIn(dir), 'utf8')) as string[]).map((path) => join(dir, path))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined
    throw error
  }
}

/** The bases without those that a new tree must not be linked to; `useless`: the unfinished ones among these. */
export async function cleanBases(
  target: Target,
  bases: Bases,
  context: RunContext,
): Promise<Bases & { readonly useless: readonly string[] }> {
  const [unfinished, useless]: [string[], string[]] = [[], []]
  for (const dir of bases.unfinished) ((await isClean(target, dir, context)) ? unfinished : useless).push(dir)
  return { ...bases, snapshots: await agreeing(bases.snapshots), unfinished, useless }
}

/** The older base goes where a folder of the newer one is a link in it: each run would have to be done twice, while the newer stays partial. */
async function agreeing(snapshots: Bases['snapshots']): Promise<Bases['snapshots']> {
  const [newest, older] = snapshots
  if (!newest || !older) return snapshots
  try {
    return (await detoursOf(manifestOf(newest), [treeOf(older)])).size === 0 ? snapshots : [newest]
  } catch (error) {
    if (!(error instanceof Failure) || error.class !== 'damaged') throw error
    return snapshots // told of where the manifest is read for the next one
  }
}

/** By its folders, since its last lines of output may be missing. Where a base of its own is gone nobody can tell any more. */
async function isClean(target: Target, dir: string, context: RunContext): Promise<boolean> {
  const trees = originOf(dir)
  if (!trees?.every((tree) => existsSync(tree))) return false
  if (trees.length === 0) return true
  const child = startTool(target, ['find', '.', '-type', 'd', '-print0'], context, { cwd: join(dir, 'tree') })
  let clean = true
  for await (const names of child.stdout ? latinLines(child.stdout, '\0') : [])
    clean &&= !names.some((name) => leadsAway(trees, escapePath(Buffer.from(name.slice('./'.length), 'latin1'))))
  const { status } = await child.done
  return clean && status === 0
}
