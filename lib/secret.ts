// Where a target's secrets come from, and how they are put there. They live in memory and in the children's environment only.
import { randomBytes, randomInt } from 'node:crypto'
import { constants } from 'node:fs'
import { access, open, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isatty } from 'node:tty'
import { answer } from './child.ts'
import type { Context, Provider, Target } from './contract.ts'
import { callerEnv, callerVar, formatEnv, parseEnv } from './env.ts'
import { Failure } from './failure.ts'
import { decryptByGpg, encryptByGpg, wrongPassphrase } from './gpg.ts'
import { words } from './keys.ts'
import { conceal } from './log.ts'
import { readPassphrase } from './passphrase.ts'

type Asked = Pick<Context, 'signal' | 'ask' | 'passphraseFd'>
type Values = Readonly<Record<string, string>>

const fileNames = { gpg: 'secret.env.gpg', credential: 'secret.cred', file: 'secret.env' } as const
const commandLimit = 60

/**
 * A target's secrets, by key; all are concealed from now on. Failure `auth` where they are missing or do not open, `config` with
 * every fault (file:line:column) where they are no env file, and for a plain file that others may read.
 */
export async function openSecrets(target: Target, context: Asked): Promise<Record<string, string>> {
  concealLogin(target.env.RESTIC_REPOSITORY ?? '')
  if (target.secret === 'none') return {}
  const { from, text } = await fetchText(target, context)
  const { entries, faults } = parseEnv(text, from)
  if (faults.length > 0) {
    const lines = faults.map(({ file, line, column, message }) => `\n  ${file}:${line}:${column}: ${message}`)
    throw new Failure('config', `the secrets of '${target.name}' are not valid:${lines.join('')}`)
  }
  const values = Object.fromEntries([...entries].map(([key, { value }]) => [key, value]))
  concealAll(values)
  refuseEmpty(values, `the secrets of '${target.name}' (${from}:${entries.get('RESTIC_PASSWORD')?.line})`)
  return values
}

/**
 * Writes secrets to where a provider finds them, in place of what is there, once the new file is proven to open to the same
 * bytes. gpg needs either a passphrase or a recipient whose secret key is here. Gives the file; for `command`, which kedge
 * cannot write, the text that the operator puts there.
 */
export async function sealSecrets(
  dir: string,
  provider: Provider,
  values: Values,
  options: { passphrase?: string; recipient?: string; signal?: AbortSignal } = {},
): Promise<{ file: string } | { text: string }> {
  concealAll(values)
  refuseEmpty(values, `the secrets for '${basename(dir)}'`)
  const text = formatEnv(values)
  if (provider === 'command') return { text }
  if (provider === 'none') throw new Failure('misuse', `cannot keep the secrets of '${basename(dir)}': SECRET is none`)
  const file = join(dir, fileNames[provider])
  const { sealed, opened } = await sealing(file, provider, text, options)
  await replace(file, { sealed, text, mode: provider === 'file' ? 0o400 : 0o600, opened })
  return { file }
}

/** 197 bits from what is hard to mistake when it is read from paper and typed: no 0 o, 1 i l, 2 z, 5 s, 6 8 b, 9 g q beside each other. */
export function newPassword(): string {
  const letters = 'abcdefghjkmnpqrstuvwxyz347'
  const group = () => Array.from({ length: 6 }, () => letters[randomInt(letters.length)]).join('')
  return Array.from({ length: 7 }, group).join('-')
}

async function fetchText(target: Target, context: Asked): Promise<{ from: string; text: string }> {
  if (target.secret === 'command') return { from: 'SECRET_COMMAND', text: await runCommand(target, context.signal) }
  if (target.secret === 'credential') {
    const given = await systemdGave(target.name)
    if (given) return { from: given, text: utf8(await readFile(given), given) }
  }
  const from = join(target.dir, fileNames[target.secret as keyof typeof fileNames])
  if (target.secret === 'file') return { from, text: utf8(await readPrivate(from), from) }
  if (target.secret === 'credential') return { from, text: await decryptCredential(from, target.name, context.signal) }
  return { from, text: await openGpg(from, context) }
}

// --- file

async function readPrivate(file: string): Promise<Buffer> {
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

// --- credential

async function systemdGave(name: string): Promise<string | undefined> {
  const folder = callerVar('CREDENTIALS_DIRECTORY')
  if (!folder) return undefined
  for (const file of [join(folder, `kedge-${name}`), join(folder, fileNames.file)]) {
    const there = await access(file).then(
      () => true,
      (error: NodeJS.ErrnoException) => error.code !== 'ENOENT',
    )
    if (there) return file
  }
  return undefined
}

async function decryptCredential(file: string, name: string, signal?: AbortSignal): Promise<string> {
  await access(file, constants.R_OK).catch(fileTrouble(file))
  const { status, stdout, stderr } = await answer(['systemd-creds', 'decrypt', `--name=kedge-${name}`, file, '-'], {
    env: callerEnv(),
    signal,
    timeout: commandLimit,
  })
  if (status !== 0)
    throw new Failure('auth', `cannot open '${file}': ${lastLine(stderr)}`, { hint: 'only the machine that sealed it opens it, as root' })
  return stdout
}

// --- gpg

async function openGpg(file: string, context: Asked): Promise<string> {
  const { binary, header, openSymmetric } = await import('./openpgp.ts')
  const message = binary(await readFile(file).catch(fileTrouble(file)))
  const head = message && header(message)
  if (!message || !head) throw new Failure('config', `cannot open '${file}': it is not an encrypted OpenPGP message`)
  const passphrase = head.passphrases > 0 ? await readPassphrase(file, context) : undefined
  if (passphrase === undefined) {
    if (head.keys > 0) return await decryptByGpg(file, context.signal)
    const hint = 'give it with --passphrase-fd N (or KEDGE_PASSPHRASE_FD=N), or run kedge on a terminal, where it asks'
    throw new Failure('auth', `cannot open '${file}': no passphrase and nobody to ask`, { hint })
  }
  if (!head.openable) return await decryptByGpg(file, context.signal, passphrase)
  const opened = await openSymmetric(message, passphrase)
  if (opened === undefined) throw wrongPassphrase(file)
  return utf8(opened, file)
}

// --- sealing

type Sealing = { sealed: string | Uint8Array; opened: (file: string) => Promise<string> }

async function sealing(
  file: string,
  provider: keyof typeof fileNames,
  text: string,
  { passphrase, recipient, signal }: { passphrase?: string; recipient?: string; signal?: AbortSignal },
): Promise<Sealing> {
  const cannot = (kind: 'misuse' | 'auth', why: string) => new Failure(kind, `cannot seal '${file}': ${why}`)
  if (provider === 'file') return { sealed: text, opened: async (path) => utf8(await readPrivate(path), path) }
  if (provider === 'credential') {
    const name = basename(dirname(file))
    const command = ['systemd-creds', 'encrypt', `--name=kedge-${name}`, '-', '-']
    const { status, stdout, stderr } = await answer(command, { env: callerEnv(), input: text, signal, timeout: commandLimit })
    if (status !== 0) throw cannot('auth', lastLine(stderr))
    return { sealed: stdout, opened: (path) => decryptCredential(path, name, signal) }
  }
  if (recipient !== undefined && passphrase !== undefined) throw cannot('misuse', 'a passphrase and a recipient: one of them')
  if (recipient !== undefined) {
    return { sealed: await encryptByGpg(file, text, recipient, signal), opened: (path) => decryptByGpg(path, signal) }
  }
  if (!passphrase) throw cannot('misuse', 'the passphrase is empty')
  if (/[\n\0]/.test(passphrase)) throw cannot('misuse', 'a passphrase with a line feed or NUL cannot be given on a descriptor')
  conceal(passphrase)
  const { openSymmetric, sealSymmetric } = await import('./openpgp.ts')
  const opened = async (path: string) => utf8((await openSymmetric(await readFile(path), passphrase)) ?? Buffer.alloc(0), path)
  return { sealed: await sealSymmetric(Buffer.from(text), passphrase), opened }
}

/** Puts a proven file in the place of another: what is there before is untouched until then. */
async function replace(file: string, { sealed, text, mode, opened }: Sealing & { text: string; mode: number }): Promise<void> {
  const folder = dirname(file)
  const fresh = join(folder, `.${basename(file)}.${randomBytes(6).toString('hex')}`)
  const trouble = fileTrouble(file)
  try {
    const handle = await open(fresh, 'wx', mode).catch(trouble)
    try {
      await handle.chmod(mode)
      await handle.writeFile(sealed)
      await handle.sync()
    } catch (error) {
      trouble(error as NodeJS.ErrnoException)
    } finally {
      await handle.close()
    }
    const back = await opened(fresh).catch((error: unknown) => {
      if (!(error instanceof Failure)) throw error
      const why = error.message.replace(/^.*?': /, '')
      throw new Failure(error.class, `cannot seal '${file}': what was written does not open: ${why}`, { cause: error })
    })
    if (back !== text) throw new Failure('damaged', `cannot seal '${file}': what was written does not open to the same bytes`)
    await rename(fresh, file).catch(trouble)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
  const directory = await open(folder, 'r')
  await directory.sync().finally(() => directory.close())
}

// --- what they share

function fileTrouble(file: string): (error: NodeJS.ErrnoException) => never {
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

function utf8(bytes: Uint8Array, from: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') throw error
    throw new Failure('config', `cannot read '${from}': it is not UTF-8`)
  }
}

const lastLine = (stderr: string): string => stderr.trim().split('\n').pop() || 'it gave no reason'

function refuseEmpty(values: Values, where: string): void {
  // restic 0.14 would read an empty password from stdin.
  if (values.RESTIC_PASSWORD === '') throw new Failure('auth', `cannot use ${where}: RESTIC_PASSWORD is empty`)
}

function concealAll(values: Values): void {
  for (const [key, value] of Object.entries(values)) {
    if (key.endsWith('_REPOSITORY')) concealLogin(value)
    // A value of several lines is printed line by line.
    else if (/PASS|SECRET|KEY|TOKEN/.test(key) || value.length > 7) for (const text of [value, ...value.split('\n')]) conceal(text)
  }
}

/** The `user:password` in the address of a repository. */
function concealLogin(repository: string): void {
  const login = /\/\/([^/]*:[^/]*)@/.exec(repository)?.[1]
  if (!login) return
  conceal(login)
  const password = login.slice(login.indexOf(':') + 1)
  if (password.length > 7) conceal(password)
}
