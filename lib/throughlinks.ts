// A restore in place writes through no link where a folder was saved: what it leads to may be other files than those that were saved.
import { lstatSync } from 'node:fs'
import { dirname } from 'node:path'
import { Failure } from './failure.ts'
import { selection } from './pattern.ts'
import type { Job } from './restoring.ts'
import { holds } from './selection.ts'

/** The topmost link among the folders above a path, from one of them downwards. */
export function linkAbove(path: string, from = '/'): string | undefined {
  let found: string | undefined
  for (let at = dirname(path); at !== '/' && holds(from, at); at = dirname(at)) if (isLink(at)) found = at
  return found
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return false // what is to be written there will fail by its own name
  }
}

/** Of the path that is restored. `above`: whether links above the saved path that holds it, by which that was reached, count too. Failure 'refused'. */
export function checkLinks({ snapshot, path = '/' }: Job, above: boolean): void {
  const saved = snapshot.paths.find((each) => holds(each, path))
  const links =
    saved === undefined
      ? snapshot.paths.filter((each) => holds(path, each)).map((each) => ({ path: each, link: linkAbove(each) }))
      : [{ path, link: linkAbove(path, above ? '/' : saved) }]
  for (const { path, link } of links) if (link !== undefined) throw refused(path, link)
}

/** Of the entries that patterns choose, as they pass by. `replaces`: a link whose folder is chosen too becomes that folder. Failure 'refused'. */
export async function* checkedLinks<E extends { readonly path: string }>(
  entries: AsyncIterable<readonly E[]>,
  { snapshot, how }: Job,
  replaces = true,
): AsyncGenerator<readonly E[]> {
  const known = new Map<string, string | undefined>()
  const linkTo = (folder: string): string | undefined => {
    if (folder === '/' || snapshot.paths.every((each) => !holds(each, folder))) return undefined
    if (known.has(folder)) return known.get(folder)
    const above = linkTo(dirname(folder))
    const found = above ?? (isLink(folder) && !(replaces && selection(how.include, how.exclude)(folder, true)) ? folder : undefined)
    if (known.size > 1000) known.clear()
    known.set(folder, found)
    return found
  }
  for await (const batch of entries) {
    for (const { path } of batch) {
      const link = linkTo(dirname(path))
      if (link !== undefined) throw refused(path, link)
    }
    yield batch
  }
}

const refused = (path: string, link: string): Failure =>
  new Failure(
    'refused',
    `refusing to restore '${path}' in place: '${link}' is a link to a folder, which may be another one than was saved`,
    {
      hint: 'restore with --to, and move it from there',
    },
  )
