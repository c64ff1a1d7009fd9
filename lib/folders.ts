// Growth grouped by folder: pure. The memory follows the changes.
import type { Change, Growth } from './rows.ts'

type Sum = { growth: number; written: number; files: number }
type Folder = Sum & {
  path: string
  /** What lies directly in it. */
  own: Sum
  folders: Map<string, Folder>
}

// A folder is looked into where one of its parts has at least this share of its growth; else the folder is the answer.
const telling = 0.1
// A folder with less than this share of the whole growth tells nothing.
const weight = 0.01

const none = (): Sum => ({ growth: 0, written: 0, files: 0 })
const make = (path: string): Folder => ({ path, ...none(), own: none(), folders: new Map() })

function count(sum: Sum, growth: number, written: number): void {
  sum.growth += growth
  sum.written += written
  sum.files++
}

/** Folders that grow with each change added; a folder itself (its path ends in a slash) has no size and is left out. */
export function createFolders() {
  const root = make('/')
  return {
    add({ path, change, before = 0, after = 0 }: Change): void {
      if (path.endsWith('/')) return
      const growth = after - before
      const written = change === '-' || change === 'U' ? 0 : after
      let folder = root
      count(folder, growth, written)
      for (const name of path.split('/').slice(1, -1)) {
        let next = folder.folders.get(name)
        if (!next) {
          next = make(folder.path === '/' ? `/${name}` : `${folder.path}/${name}`)
          folder.folders.set(name, next)
        }
        folder = next
        count(folder, growth, written)
      }
      count(folder.own, growth, written)
    },
    top: (n: number): Growth[] => top(root, n),
  }
}

/**
 * At most n folders, the one that grew most first; none counts what another one counts. From the root on, the folder that grew most is
 * taken apart into its folders and what lies directly in it, until n of weight are told apart. A folder shown beside one of its own
 * folders counts without it.
 */
function top(root: Folder, n: number): Growth[] {
  const least = Math.max(1, root.growth * weight)
  const matters = ({ growth }: Sum) => growth >= least
  const whole = new Set<Folder>()
  let parts: Folder[] = [deepest(root)]
  while (parts.filter(matters).length < n) {
    const largest = parts.filter((each) => each.folders.size > 0 && matters(each) && !whole.has(each)).sort(byGrowth)[0]
    if (!largest) break
    const inside = partsOf(largest)
    if (Math.max(...inside.map(({ growth }) => growth)) < largest.growth * telling) whole.add(largest)
    else parts = parts.filter((each) => each !== largest).concat(inside)
  }
  return parts
    .filter(({ files }) => files > 0)
    .sort(byGrowth)
    .slice(0, n)
    .map(({ growth, written, files, path }) => ({ kind: 'growth', growth, written, files, path }))
}

/** A chain of single folders is its last one. */
function deepest(folder: Folder): Folder {
  const [only, second] = folder.folders.values()
  return only && !second && folder.own.files === 0 ? deepest(only) : folder
}

const partsOf = (folder: Folder): Folder[] => [
  ...[...folder.folders.values()].map(deepest),
  ...(folder.own.files > 0 ? [{ ...folder, ...folder.own, folders: new Map<string, Folder>() }] : []),
]

const byGrowth = (a: Folder, b: Folder): number => b.growth - a.growth || b.written - a.written || (a.path < b.path ? -1 : 1)
