// Paths to save: which of them are there.
import { lstat, realpath } from 'node:fs/promises'
import { basename, dirname, join, normalize } from 'node:path'

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

/** Those that a link on the way leads to, with the path that has none. A link at the end is linksAmong's. */
export async function linksAbove(paths: readonly string[]): Promise<{ path: string; real: string }[]> {
  const found = await Promise.all(
    paths.map(async (path) => {
      const clean = normalize(path).replace(/(?<=.)\/$/, '')
      try {
        const real = join(await realpath(dirname(clean)), basename(clean))
        return real === clean ? [] : [{ path, real }]
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
        return [] // the tool names it
      }
    }),
  )
  return found.flat()
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
