// A folder that something is mounted in, and is gone from again when kedge ends.
import { type BigIntStats, statSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { answer } from './child.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'
import { quote } from './shell.ts'

/** What a folder is while nothing is mounted in it. */
export type Bare = { readonly at: string; readonly dev: bigint; readonly ino: bigint }

/** Failure 'misuse' unless it is an empty folder. */
export async function bareFolder(at: string): Promise<Bare> {
  const cannot = (why: string) => new Failure('misuse', `cannot mount at '${at}': ${why}`, { hint: 'name an empty folder' })
  const found: BigIntStats = await stat(at, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') throw cannot('there is no such folder')
    if (error.code === 'ENOTCONN')
      throw new Failure('misuse', `cannot mount at '${at}': a dead mount is there`, { hint: `umount ${quote(at)}` })
    throw error
  })
  if (!found.isDirectory()) throw cannot('it is not a folder')
  if ((await readdir(at)).length > 0) throw cannot('it is not empty')
  return { at, dev: found.dev, ino: found.ino }
}

/** Another folder than before; a FUSE whose process died cannot be looked at any more. */
export function isMounted({ at, dev, ino }: Bare): boolean {
  try {
    const now = statSync(at, { bigint: true })
    return now.dev !== dev || now.ino !== ino
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    return true
  }
}

/** Tries the commands in turn. Failure 'tool' where something still uses the folder. */
export async function unmounted(bare: Bare, commands: readonly (readonly string[])[]): Promise<void> {
  for (const command of commands) {
    if (!isMounted(bare)) return
    await answer(command, { env: callerEnv(), timeout: 30 }).catch((error) => {
      if (!(error instanceof Failure)) throw error // not installed: the next one
    })
  }
  if (isMounted(bare))
    throw new Failure('tool', `cannot unmount '${bare.at}': something uses it`, {
      hint: `leave the folder, then: umount ${quote(bare.at)}`,
    })
}
