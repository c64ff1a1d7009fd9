// Entries whose path is too long below a store's folders. rsync makes them all the same, since it changes folders; nobody can look at them
// by their path, so that no manifest names them.
import { readdirSync } from 'node:fs'
import type { RunContext } from '../../contract.ts'
import { partialTag } from '../../snapshots.ts'
import { entryAt, fits, isTooLong } from './entry.ts'
import { pathBytes, readManifest, shownPath } from './manifest.ts'
import { placeRule, type Rule } from './rules.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'
import { tell } from './verdict.ts'

/** The run is partial then. */
export const tellTooLong = (store: string, id: string, paths: readonly string[], context: RunContext): void =>
  tell(
    `snapshot ${id}: cannot keep in full`,
    paths.map((path) => [path, `its path is too long for the store '${store}'`]),
    context,
  )

/** No name is longer. */
const longest = 255

/**
 * Whether an entry of a tree may be in no manifest for the length of its path: of a snapshot in part also where it is not too long by
 * some bytes, since the store may have had a longer path when it was made, as before a rename.
 */
export const mayBeUnnamed = ({ tags }: Pick<Found, 'tags'>, at: string | Buffer): boolean =>
  isTooLong(tags.includes(partialTag) ? Buffer.concat([Buffer.from(at), Buffer.alloc(longest, '/')]) : at)

/**
 * `unnamed`: what the tree holds and no manifest names, for its path is too long; `rules`: those that leave it out, one for names of one
 * length, all of which are too long. `named`: what the manifest names and nobody can look at in a tree at `place`. Paths as they are shown.
 */
export type Overlong = { readonly unnamed: readonly string[]; readonly rules: readonly Rule[]; readonly named: readonly string[] }

export async function overlong(found: Found, place: string): Promise<Overlong> {
  const tree = treeOf(found)
  const unnamed: string[] = []
  const rules = new Set<Rule>()
  const named: string[] = []
  let isCopy = false
  // Others have no child that is too long.
  const least = fits - longest - 2 - Math.max(Buffer.byteLength(tree), Buffer.byteLength(place))
  for await (const lines of readManifest(manifestOf(found), (text) => text.indexOf('\t') > least))
    for (const { path, type } of lines) {
      if (isTooLong(entryAt(place, path))) named.push(shownPath(path))
      const at = Buffer.from(entryAt(tree, path))
      const beyond = isTooLong(at)
      isCopy ||= beyond
      if (type !== 'd' || beyond || !isTooLong(Buffer.concat([at, Buffer.alloc(longest + 1, '/')]))) continue
      for (const name of namesIn(at)) {
        if (!isTooLong(Buffer.concat([at, slash, name]))) continue
        unnamed.push(`${shownPath(path)}/${name.toString('utf8')}`)
        rules.add(placeRule(Buffer.concat([pathBytes(path), slash, Buffer.alloc(name.length, '?')])))
      }
    }
  // A copy from a store where nothing was too long holds nothing unnamed.
  return isCopy ? { unnamed: [], rules: [], named } : { unnamed, rules: [...rules], named }
}

const slash = Buffer.from('/')

/** None where a folder is gone, or not to be read: rsync tells of it. */
function namesIn(folder: Buffer): Buffer[] {
  try {
    return readdirSync(folder, { encoding: 'buffer' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return []
  }
}
