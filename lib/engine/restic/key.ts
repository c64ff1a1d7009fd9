// The keys of a repository: each password opens one of them, and each of them opens the same master key.
import { join } from 'node:path'
import { answer } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { callerEnv } from '../../env.ts'
import { Failure } from '../../failure.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { isWrongPassword } from './errors.ts'
import { askRestic, jsonLine, repository, version } from './tool.ts'
import type { Version } from './version.ts'

type Key = { current: boolean; id: string }

export const keyListArgs = (): string[] => ['key', 'list', '--json', '--no-lock', '--no-cache']
export const keyAddArgs = (target: Target, restic: Version, file: string): string[] => [
  'key',
  'add',
  ...waitArgs(target, restic),
  '--new-password-file',
  file,
]
export const keyRemoveArgs = (target: Target, restic: Version, id: string): string[] => ['key', 'remove', ...waitArgs(target, restic), id]

/** The same run with another password. */
export const under = (context: RunContext, password: string): RunContext => ({
  ...context,
  secrets: { ...context.secrets, RESTIC_PASSWORD: password },
})

/** The id of the key that the context's password opens (8 digits from restic 0.14, else 64); undefined where it opens none. */
export async function keyOf(target: Target, context: RunContext): Promise<string | undefined> {
  const action = `open repository '${repository(target)}'`
  try {
    const text = await askRestic(target, keyListArgs(), context, { action, timeout: 300 })
    const keys = jsonLine<Key[]>(text.slice(Math.max(0, text.indexOf('['))))
    const id = keys?.find(({ current }) => current)?.id
    if (!id) throw new Failure('tool', `cannot ${action}: restic did not say which key is in use`)
    return id
  } catch (error) {
    if (isWrongPassword(error)) return undefined
    throw error
  }
}

// restic wants a file. It is a named pipe in the folder, so that nothing lies on a disk; restic itself stays the leader of its group,
// by which a later run knows its locks.
const throughPipe = 'cat <&4 >"$1" & exec 4<&-; shift; exec "$@"'

/** Adds a key for a new password; `folder` is a private one. */
export async function addKey(target: Target, next: string, folder: string, context: RunContext): Promise<void> {
  const pipe = join(folder, 'new-password')
  const made = await answer(['mkfifo', '-m', '600', pipe], { env: callerEnv(), signal: context.signal })
  if (made.status !== 0) throw new Failure('tool', `cannot make a pipe '${pipe}': ${made.stderr.trim()}`)
  const args = keyAddArgs(target, await version(target), pipe)
  const through = ['/bin/sh', '-c', throughPipe, 'sh', pipe]
  await withoutOwnDeadLocks(target, context, async () => {
    await askRestic(target, args, context, { action: `add a key to '${repository(target)}'`, timeout: 600, second: next, through })
  })
}

export async function removeKey(target: Target, id: string, context: RunContext): Promise<void> {
  const args = keyRemoveArgs(target, await version(target), id)
  await withoutOwnDeadLocks(target, context, async () => {
    await askRestic(target, args, context, { action: `remove the key ${id.slice(0, 8)} from '${repository(target)}'`, timeout: 600 })
  })
}
