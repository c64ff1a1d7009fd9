// One path in a snapshot, as an operator names it: its line in the manifest, and which lines lie below it.
import { Failure } from '../../failure.ts'
import { shortId } from '../../format.ts'
import { escapePath, type Line, readManifest, shownPath } from './manifest.ts'
import { type Found, manifestOf } from './snapshots.ts'

/** The path of a manifest's line as it is, escaped. */
export const pathOf = (text: string): string => text.slice(0, text.indexOf('\t'))

/**
 * Says of the text of a manifest's line where its path lies, seen from `path` ('/etc', '/'): the same, below it, or elsewhere (undefined).
 * A path with U+FFFD names what is shown like it: a name that is no UTF-8.
 */
export function seenFrom(path: string): (text: string) => 'itself' | 'below' | undefined {
  if (path === '/') return (text) => (pathOf(text) === '.' ? 'itself' : 'below')
  const relation = (one: string, here: string) => (one === here ? 'itself' : one.startsWith(`${here}/`) ? 'below' : undefined)
  if (path.includes('\ufffd')) return (text) => relation(shownPath(pathOf(text)), path)
  const escaped = escapePath(Buffer.from(path.slice(1)))
  return (text) => relation(pathOf(text), escaped)
}

/** The line of a path; Failure `empty` where the snapshot has none, `misuse` where several names are shown like it. */
export async function locate(found: Found, path: string): Promise<Pick<Line, 'path' | 'type' | 'size'>> {
  if (path === '/') return { path: '.', type: 'd', size: 0 }
  const where = seenFrom(path)
  const lines: Line[] = []
  for await (const batch of readManifest(manifestOf(found), (text) => where(text) === 'itself')) {
    lines.push(...batch)
    if (lines.length > 0 && !path.includes('\ufffd')) break
  }
  const [line, second] = lines
  if (!line) throw absent(found, path)
  if (second) {
    throw new Failure('misuse', `several names in snapshot '${shortId(found.id)}' are shown as '${path}': none of them is UTF-8`, {
      hint: 'name the folder that holds them',
    })
  }
  return line
}

export const absent = ({ id }: Pick<Found, 'id'>, path: string): Failure =>
  new Failure('empty', `snapshot '${shortId(id)}' has no '${path}'`)
