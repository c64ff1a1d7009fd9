// What a new snapshot is linked to: the newest scheduled ones that are trusted, and what earlier runs have left unfinished.
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { groupOf, partialTag } from '../../snapshots.ts'
import { mostBases } from './argv.ts'
import { type Found, idPattern, treeOf } from './snapshots.ts'

export type Bases = {
  /** The newest, and the newest good one if that is another. */
  readonly snapshots: readonly Found[]
  /** Folders of incomplete/, the newest first. */
  readonly unfinished: readonly string[]
  /** What stands in the way of linking, in words. */
  readonly wrong: string | undefined
}

/** `found`: the newest first. Manual ones and lists of names are no bases: they stand beside the chain. */
export function basesOf(root: string, found: readonly Found[], suspects: Readonly<Record<string, string>>): Bases {
  const trusted = found.filter((each) => groupOf(each) === 'paths' && !suspects[each.id])
  const own = trusted.filter((each) => dirname(dirname(each.dir)) === root)
  // After a rename the target goes on from those of its old name.
  const chain = own.length > 0 ? own : trusted
  const good = chain.find((each) => !each.tags.includes(partialTag))
  const wanted = [...new Set([chain[0], good])].filter((each) => each !== undefined)
  const usable = wanted.filter((each) => onDevice(treeOf(each), root))
  const lost = wanted.find((each) => !usable.includes(each))
  return {
    snapshots: usable,
    unfinished: unfinishedIn(root).slice(0, mostBases - usable.length),
    wrong:
      lost && `its base ${lost.id} ${existsSync(treeOf(lost)) ? 'lies on another device' : 'has no tree'}: nothing can be linked to it`,
  }
}

/** The folders below incomplete/ that have a tree, the newest first. */
function unfinishedIn(root: string): string[] {
  const folder = join(root, 'incomplete')
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter((name) => idPattern.test(name))
  const dirs = names.sort().map((name) => join(folder, name))
  return dirs.reverse().filter((dir) => onDevice(join(dir, 'tree'), root))
}

/** A hard link stays on its file system. */
function onDevice(path: string, root: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false })
  return found !== undefined && found.dev === statSync(root).dev
}
