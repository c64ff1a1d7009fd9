// Files that this user may run, and those that he should not.
import { accessSync, constants, statSync } from 'node:fs'
import { join } from 'node:path'
import { callerVar } from './env.ts'

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch (error) {
    if (['ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
    throw error
  }
}

/** Why a file or folder says more than its owner and who runs kedge may say: what root runs, no user of the machine may choose. */
export function foreign(path: string): string | undefined {
  const { mode, uid } = statSync(path)
  if (mode & 0o002) return 'everybody may write it'
  if (uid !== 0 && uid !== process.geteuid?.()) return `it belongs to user ${uid}: it must belong to root, or to who runs kedge`
  return undefined
}

/** Why a file must not be run, in words; undefined when it is well. */
export function untrusted(file: string): string | undefined {
  if (!isExecutable(file)) return 'it is not an executable file'
  return foreign(file)
}

/** The executable that PATH gives for a name. */
export function findInPath(name: string): string | undefined {
  return (callerVar('PATH') ?? '')
    .split(':')
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find(isExecutable)
}
