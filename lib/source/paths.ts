// Paths to save: which of them are there.
import { lstat } from 'node:fs/promises'

/** lstat each, at most 64 at a time: a list from stdin may be long. A path that may not be looked at counts as there: the tool names it. */
export async function presentPaths(paths: readonly string[]): Promise<{ present: string[]; missing: string[] }> {
  const present: string[] = []
  const missing: string[] = []
  for (let i = 0; i < paths.length; i += 64) {
    const batch = paths.slice(i, i + 64)
    const there = await Promise.all(batch.map(exists))
    batch.forEach((path, j) => {
      ;(there[j] ? present : missing).push(path)
    })
  }
  return { present, missing }
}

/** Those that are symbolic links themselves: a tool saves the link, and not what it points to, also where the name ends with a slash. */
export async function linksAmong(paths: readonly string[]): Promise<string[]> {
  const links = await Promise.all(
    paths.map(async (path) => {
      try {
        return (await lstat(path.replace(/(?<=.)\/+$/, ''))).isSymbolicLink()
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
        return false // the tool names it
      }
    }),
  )
  return paths.filter((_, i) => links[i])
}

export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return false
    return true
  }
}
