// The recovery sheet of a target brought to where the operator keeps it, and the note that it is there.
import { rmSync } from 'node:fs'
import { lstat, readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Context, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { encryptByGpg } from './gpg.ts'
import { makeState, readJson, replaceFile } from './ledger.ts'
import { stateDir } from './paths.ts'
import { heading } from './recovery.ts'
import type { FileRow } from './rows/house.ts'
import type { CommandLine, Text } from './rows.ts'
import { openSealed } from './secret.ts'
import { ownSecrets } from './secrettext.ts'
import { quote } from './shell.ts'

export type Wanted = {
  readonly withSecret: boolean
  readonly to: string | undefined
  readonly recipient: string | undefined
  /** The page, with the secrets that are given. */
  readonly page: (secrets?: Readonly<Record<string, string>>) => Promise<string>
}

/** The sheet as text, or written to a file that only its owner reads. Replaces nothing but an older sheet. */
export async function* giveSheet(target: Target, wanted: Wanted, context: Context): AsyncGenerator<FileRow | Text | CommandLine> {
  const to = wanted.to === undefined ? undefined : resolve(wanted.to)
  if (context.mode === 'explain') {
    const seal = wanted.recipient === undefined ? '' : ` | gpg --armor --encrypt --recipient ${quote(wanted.recipient)}`
    const page = await wanted.page()
    yield { kind: 'command', command: `cat <<'END'${seal}${to === undefined ? '' : ` > ${quote(to)}`}\n${page}END` }
    return
  }
  if (to !== undefined) await refuseForeign(to)
  if (to !== undefined && context.mode === 'dry-run') {
    yield { kind: 'file', target: target.name, path: to, action: 'would write' }
    return
  }
  const secrets = wanted.withSecret ? ownSecrets(await openSealed(target, context)) : undefined
  const page = await wanted.page(secrets)
  const text =
    wanted.recipient === undefined ? page : await encryptByGpg(to ?? 'the recovery sheet', page, [wanted.recipient], context.signal)
  if (to === undefined) {
    yield { kind: 'text', text: text.trimEnd() }
    return
  }
  await write(to, text)
  yield { kind: 'file', target: target.name, path: to, action: 'written' }
}

/** A file of somebody else's stays. */
async function refuseForeign(file: string): Promise<void> {
  const found = await lstat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (!found) return
  const text = found.isFile() ? await readFile(file, 'latin1') : ''
  if (text.startsWith(heading) || text.startsWith('-----BEGIN PGP MESSAGE-----')) return
  throw new Failure('misuse', `cannot write '${file}': it exists, and is no recovery sheet`, { hint: 'give another name' })
}

async function write(file: string, text: string): Promise<void> {
  try {
    await replaceFile(file, text, 0o600)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EACCES' && code !== 'EROFS' && code !== 'ENOSPC' && code !== 'ENOTDIR') throw error
    throw new Failure(code === 'ENOSPC' ? 'space' : 'permission', `cannot write '${file}': ${(error as Error).message}`, { cause: error })
  }
}

// --- the note

type Note = { noted: string }
const noteFile = (target: string) => join(stateDir(target), 'recovery.json')
const secretFiles: Readonly<Record<Target['secret'], string | undefined>> = {
  gpg: 'secret.env.gpg',
  credential: 'secret.cred',
  file: 'secret.env',
  command: undefined,
  none: undefined,
}

/** Writes down that the operator keeps the sheet, and what opens the repository, on another machine. */
export async function* giveNote(target: Target, context: Context): AsyncGenerator<FileRow | CommandLine> {
  const path = noteFile(target.name)
  const text = JSON.stringify({ noted: new Date().toISOString() } satisfies Note)
  if (context.mode === 'explain') {
    yield { kind: 'command', command: `echo ${quote(text)} > ${quote(path)}` }
    return
  }
  if (context.mode === 'act') {
    makeState(stateDir(target.name))
    await replaceFile(path, text)
  }
  yield { kind: 'file', target: target.name, path, action: context.mode === 'act' ? 'written' : 'would write' }
}

/** What was kept elsewhere opens the store no more: doctor warns again. */
export const forgetNote = (target: Target): void => rmSync(noteFile(target.name), { force: true })

/** When that was noted; undefined where it was not, or the secrets are younger than the note. */
export async function notedRecovery(target: Target): Promise<string | undefined> {
  const noted = (await readJson<Note>(noteFile(target.name)))?.noted
  const file = secretFiles[target.secret]
  if (!noted || !file) return noted
  const changed = await stat(join(target.dir, file)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined // what is wrong with it is said where it is opened
    throw error
  })
  return changed && changed.mtimeMs > Date.parse(noted) ? undefined : noted
}
