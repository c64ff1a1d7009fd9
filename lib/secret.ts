// Where a target's secrets come from. They live in memory and in the children's environment only.
import { randomInt } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isatty } from 'node:tty'
import { answer } from './child.ts'
import type { Target } from './contract.ts'
import { decryptCredential, systemdGave } from './credential.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'
import { openGpg, type Sealing } from './gpgfile.ts'
import { handedSecrets } from './handed.ts'
import { words } from './keys.ts'
import type { Asked } from './passphrase.ts'
import { type FileProvider, readPrivate, secretFiles, utf8 } from './secretfile.ts'
import { concealAll, concealLogin, ownSecrets, readSecrets, refuseEmpty } from './secrettext.ts'

/** `text`: an env file, which may hold a rotation's own keys besides. */
export type Opened = { readonly from: string; readonly text: string; readonly sealing?: Sealing }

const commandLimit = 60

/**
 * A target's secrets, by key; all are concealed from now on. Failure `auth` where they are missing or do not open, `config` with
 * every fault (file:line:column) where they are no env file, and for a plain file that others may read.
 */
export async function openSecrets(target: Target, context: Asked): Promise<Record<string, string>> {
  concealLogin(target.env.RESTIC_REPOSITORY ?? '')
  if (target.secret === 'none') return {}
  const handed = handedSecrets(target)
  if (!handed) return ownSecrets(await openSealed(target, context))
  concealAll(handed)
  refuseEmpty(handed, `the secrets of '${target.name}' (kedge run)`)
  return handed
}

/**
 * The same from where they are kept, within `kedge run` too, which keeps those that it began with, and with what a rotation keeps
 * among them: for what writes them anew.
 */
export async function openSealed(target: Target, context: Asked): Promise<Record<string, string>> {
  if (target.secret === 'none') return {}
  const { from, text } = await openText(target, context)
  return readSecrets(text, from, target.name)
}

/** 197 bits from what is hard to mistake when it is read from paper and typed: no 0 o, 1 i l, 2 z, 5 s, 6 8 b, 9 g q beside each other. */
export function newPassword(): string {
  const letters = 'abcdefghjkmnpqrstuvwxyz347'
  const group = () => Array.from({ length: 6 }, () => letters[randomInt(letters.length)]).join('')
  return Array.from({ length: 7 }, group).join('-')
}

/**
 * The secrets as they are written. `file`: one that is not in its place yet. Not for the provider `none`. Failure `auth` where they
 * are missing or do not open.
 */
export async function openText(target: Target, context: Asked, file?: string): Promise<Opened> {
  if (target.secret === 'command') return { from: 'SECRET_COMMAND', text: await runCommand(target, context.signal) }
  if (target.secret === 'credential' && file === undefined) {
    const given = await systemdGave(target.name)
    if (given) return { from: given, text: utf8(await readFile(given), given) }
  }
  const from = file ?? join(target.dir, secretFiles[target.secret as FileProvider])
  if (target.secret === 'file') return { from, text: utf8(await readPrivate(from), from) }
  if (target.secret === 'credential') return { from, text: await decryptCredential(from, target.name, context.signal) }
  return { from, ...(await openGpg(from, context)) }
}

// --- command

async function runCommand(target: Target, signal: AbortSignal): Promise<string> {
  const failed = (why: string, kind: 'auth' | 'timeout' = 'auth', cause?: unknown) =>
    new Failure(kind, `cannot get the secrets of '${target.name}': SECRET_COMMAND ${why}`, { cause })
  const command = target.env.SECRET_COMMAND
  if (!command) throw new Failure('config', `cannot get the secrets of '${target.name}': SECRET_COMMAND is not set`)
  const env = { ...callerEnv(words(target.env.PASS_ENV)), KEDGE_TARGET: target.name }
  let first = ''
  const onStderr = (line: string) => {
    first ||= line.trim()
  }
  try {
    const { status, stdout } = await answer(['/bin/sh', '-c', command], {
      env,
      signal,
      stdin: isatty(0) ? 0 : 'ignore',
      timeout: commandLimit,
      onStderr,
    })
    if (status !== 0) throw failed(`ended with status ${status}${first && `: ${first}`}`)
    if (stdout.trim() === '') throw failed('printed nothing')
    return stdout
  } catch (error) {
    // Said anew: the message of the one shows the command, and the other is a program in it that sh did not find.
    if (error instanceof Failure && error.class === 'timeout') throw failed(`did not end within ${commandLimit} s`, 'timeout')
    if (error instanceof Failure && error.class === 'tool') throw failed(`cannot run${first && `: ${first}`}`, 'auth', error)
    throw error
  }
}
