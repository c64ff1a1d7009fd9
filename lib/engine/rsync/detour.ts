// Folders that are a link in a base. There rsync looks for the base of each file behind the link, which may lead anywhere: to the source
// itself, whose files would then be shared with the snapshot, or to what was never in the source. Measured with 3.2.7 and 3.5.0, and 3.5.0
// refuses only links of other users than root and its own. So it is looked for after each transfer, whoever the link belongs to.
import { chmod, lstat, readdir, rmdir, unlink } from 'node:fs/promises'
import { entryAt, statAt } from './entry.ts'
import { isBelow, isIn, type Line, leaderOf, readManifest } from './manifest.ts'
import { older, type Version } from './version.ts'

/** Without its own checks, which open every component of every path, 3.5 needs half the time (`npm run bench`). */
export const unchecked = ({ numbers }: Version): string[] => (older(numbers, [3, 5, 0]) ? [] : ['--insecure-links'])

/** `path`: a folder of the new tree, as a manifest has it. `trees`: those that it was linked to. */
export const leadsAway = (trees: readonly string[], path: string): boolean =>
  trees.some((tree) => statAt(entryAt(tree, path))?.isSymbolicLink())

/** Of the folders that a manifest names the outermost that lead away. */
export async function detoursOf(manifest: string, trees: readonly string[]): Promise<Set<string>> {
  const found = new Set<string>()
  for await (const lines of readManifest(manifest))
    for (const { path, type } of lines) if (type === 'd' && !isBelow(found, path) && leadsAway(trees, path)) found.add(path)
  return found
}

/**
 * Takes entries out of a tree with all that is below them, and every name elsewhere of the files that they hold: it is the same file. The
 * folders go last, so that one that is left tells of a removal that was cut off.
 */
export async function takeOut(tree: string, manifest: string, paths: ReadonlySet<string>): Promise<void> {
  for (const path of [...(await namesOf(manifest, paths)), ...paths]) {
    const above = path.lastIndexOf('/')
    if (above > 0) await chmod(entryAt(tree, path.slice(0, above)), 0o700)
    await clear(entryAt(tree, path))
  }
}

/** Paths elsewhere that are further names of files among those, from a manifest that is read twice. */
async function namesOf(manifest: string, paths: ReadonlySet<string>): Promise<string[]> {
  const first = (line: Line) => leaderOf(line) ?? line.path
  const shared = new Set<string>()
  for await (const lines of readManifest(manifest))
    for (const line of lines) if (leaderOf(line) && (isIn(paths, line.path) || isIn(paths, first(line)))) shared.add(first(line))
  const names: string[] = []
  if (shared.size === 0) return names
  for await (const lines of readManifest(manifest))
    for (const line of lines) if (line.type === 'f' && !isIn(paths, line.path) && shared.has(first(line))) names.push(line.path)
  return names
}

const slash = Buffer.from('/')

/** As rm -rf, for names that no argv can hold; a folder's mode is its own, that of a file belongs to all who share it. */
async function clear(place: string | Buffer): Promise<void> {
  const stat = await lstat(place).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  if (!stat) return
  if (!stat.isDirectory()) return unlink(place)
  await chmod(place, 0o700)
  for (const name of await readdir(place, { encoding: 'buffer' })) await clear(Buffer.concat([Buffer.from(place), slash, name]))
  await rmdir(place)
}
