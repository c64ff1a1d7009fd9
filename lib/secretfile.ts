// The files in which secrets lie: their names, their modes, and what goes wrong with them.
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Provider } from './contract.ts'
import { Failure } from './failure.ts'

export const secretFiles = { gpg: 'secret.env.gpg', credential: 'secret.cred', file: 'secret.env' } as const
/** The providers whose files kedge writes. */
export type FileProvider = keyof typeof secretFiles

export const hasFile = (provider: Provider): provider is FileProvider => Object.hasOwn(secretFiles, provider)

/** The file of a target's secrets; undefined where kedge keeps none. */
export const secretFile = (dir: string, provider: Provider): string | undefined =>
  hasFile(provider) ? join(dir, secretFiles[provider]) : undefined

/** A plain file of the own user's that others cannot read. Failure `config` otherwise, `auth` where it is missing. */
export async function readPrivate(file: string): Promise<Buffer> {
  // Judged by its descriptor, so that nobody changes it in between; without waiting for the writer of a pipe.
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch(fileTrouble(file))
  try {
    const { uid, mode } = await handle.stat()
    const own = process.geteuid?.()
    const bits = (mode & 0o7777).toString(8).padStart(4, '0')
    // A fault of the configuration, not of the run: it stays until the operator mends it.
    const refuse = (why: string, remedy: string) => new Failure('config', `refusing '${file}': ${why}`, { hint: remedy })
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw refuse('it is not a plain file', 'put an env file there')
    if (uid !== own) throw refuse(`it belongs to user ${uid}, not to ${own}`, `run as its owner, or: chown ${own} '${file}'`)
    if (bits !== '0400' && bits !== '0600') throw refuse(`its mode is ${bits}, not 0400 or 0600`, `chmod 0400 '${file}'`)
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

/** For a promise's catch: a Failure where the system refused the file, else the error itself is thrown on. */
export function fileTrouble(file: string): (error: NodeJS.ErrnoException) => never {
  return (cause) => {
    const [kind, why] = (cause.code && troubles[cause.code]) || []
    throw kind && why ? new Failure(kind, `cannot use '${file}': ${why}`, { cause }) : cause
  }
}

const troubles: Record<string, readonly ['auth' | 'permission' | 'space', string]> = {
  ENOENT: ['auth', 'no such file'],
  EACCES: ['permission', 'permission denied'],
  EPERM: ['permission', 'not permitted'],
  EROFS: ['permission', 'the file system is read-only'],
  ENOSPC: ['space', 'no space left'],
  EDQUOT: ['space', 'the quota is used up'],
}

/** Failure `config` where the bytes are no UTF-8. */
export function utf8(bytes: Uint8Array, from: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') throw error
    throw new Failure('config', `cannot read '${from}': it is not UTF-8`)
  }
}
