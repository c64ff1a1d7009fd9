// Files that this user may run.
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

/** The executable that PATH gives for a name. */
export function findInPath(name: string): string | undefined {
  return (callerVar('PATH') ?? '')
    .split(':')
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find(isExecutable)
}
