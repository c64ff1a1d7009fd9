// Folders as doctor sees them: who may write there, how much room is left, on which file system they lie. Reads only.
import { access, constants, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { bytes } from '../format.ts'
import { blocked, type Found, ok, warning } from './finding.ts'

/** The folder itself, or the nearest above it that is there. */
export async function nearestThere(path: string): Promise<string> {
  try {
    await stat(path)
    return path
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (path !== '/' && (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES')) return await nearestThere(dirname(path))
    throw error
  }
}

/** Whether kedge may write there, or make the folder. */
export async function writable(check: string, path: string): Promise<Found> {
  const there = await nearestThere(path)
  const may = await access(there, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  )
  if (may) return ok(check, there === path ? `'${path}' can be written` : `'${path}' can be made`)
  return blocked(
    check,
    `'${path}' cannot be ${there === path ? 'written' : `made in '${there}'`}`,
    'run as the user who owns it',
    'permission',
  )
}

/** Configuration that others may write lets them decide what kedge does. */
export async function closed(check: string, path: string): Promise<Found> {
  const { mode, uid } = await stat(path)
  const own = process.geteuid?.() ?? uid
  if (uid !== own && uid !== 0) return blocked(check, `'${path}' belongs to user ${uid}, not to ${own}`, `chown ${own} '${path}'`, 'config')
  if (mode & 0o002) return blocked(check, `everybody may write '${path}'`, `chmod o-w '${path}'`, 'config')
  if (mode & 0o020) return warning(check, `its group may write '${path}'`, `chmod g-w '${path}'`)
  return ok(check, `only its owner may write '${path}'`)
}

const tight = 1 << 30

/** Room in the file system of a folder. */
export async function space(check: string, path: string): Promise<Found> {
  const { bavail, blocks, bsize, files, ffree } = await statfs(await nearestThere(path))
  const free = bavail * bsize
  const share = blocks > 0 ? Math.floor((100 * bavail) / blocks) : 100
  const text = `${bytes(free)} free (${share} %) at '${path}'`
  if (free === 0) return blocked(check, `no space left at '${path}'`, 'free some space', 'space')
  if (files > 0 && ffree === 0) return blocked(check, `no inode left at '${path}'`, 'remove some files', 'space')
  if (free < tight || share < 5) return warning(check, text, 'free some space, before a backup fails for it')
  return ok(check, text)
}

/** The paths that lie on the same file system as a folder. */
export async function sameDevice(folder: string, paths: readonly string[]): Promise<string[]> {
  const { dev } = await stat(await nearestThere(folder))
  const same: string[] = []
  for (const path of paths) {
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP'].includes(error.code ?? '')) return undefined
      throw error
    })
    if (found?.dev === dev) same.push(path)
  }
  return same
}
