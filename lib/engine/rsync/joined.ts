// Names that were one file in a base and are two at the source, equal in all that rsync compares: it links both to the base's one file, and
// what is written to one of them after a restore would be written to the other.
import { entryAt, statAt } from './entry.ts'
import { type Line, leaderOf, readManifest } from './manifest.ts'

export type Joined = {
  /** The line of a file that is linked to a base, and what each base has of its path. */
  readonly look: (line: Line, bases: readonly (Line | undefined)[]) => void
  /** Which of them are files of their own by the new manifest. */
  readonly finish: (manifest: string) => Promise<Set<string>>
}

export function joinedIn(tree: string): Joined {
  /** By the name that led in the base, the last of the others that is none of the new tree's further names. */
  const seen = new Map<string, string>()
  const pairs: (readonly [string, string])[] = []
  const inodeOf = (path: string) => statAt(entryAt(tree, path))?.ino
  return {
    look(line, bases) {
      const leader = line.link ? undefined : bases.flatMap((old) => (old && leaderOf(old)) ?? [])[0]
      if (leader === undefined) return
      const own = inodeOf(line.path)
      for (const other of [leader, seen.get(leader)]) if (other !== undefined && inodeOf(other) === own) pairs.push([line.path, other])
      seen.set(leader, line.path)
    },
    async finish(manifest) {
      if (pairs.length === 0) return new Set()
      // rsync may let another name lead than the base has leading.
      const leaders = new Map(pairs.flat().map((path) => [path, path]))
      for await (const lines of readManifest(manifest))
        for (const line of lines) if (leaders.has(line.path)) leaders.set(line.path, leaderOf(line) ?? line.path)
      return new Set(pairs.filter(([a, b]) => leaders.get(a) !== leaders.get(b)).map(([path]) => path))
    },
  }
}
