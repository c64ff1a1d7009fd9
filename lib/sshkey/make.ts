// The key of a target: made, read, and another one put in its place. One file: its public half is read from it.
import { chmod, link, mkdtemp, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { answer } from '../child.ts'
import type { Context, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { toDisk } from '../inplace.ts'
import type { HostKey } from '../source/hostkeys.ts'
import { sshEnv } from '../source/ssh.ts'

type Asking = Pick<Context, 'signal'>

/** An ed25519 key without a passphrase: a timer has nobody to type it. */
export const makeCommand = (target: string, file: string): string[] => [
  ...['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', `kedge:${target}`],
  ...['-f', file],
]
export const readCommand = (file: string): string[] => ['ssh-keygen', '-y', '-P', '', '-f', file]

/** Makes the file, mode 0600; false where there is one already, which stays. */
export async function makeKey(target: Target, file: string, context: Asking): Promise<boolean> {
  const folder = await mkdtemp(join(target.dir, '.ssh_key-'))
  const fresh = join(folder, 'key')
  try {
    const { status, stderr } = await answer(makeCommand(target.name, fresh), { env: sshEnv(target), signal: context.signal })
    if (status !== 0) throw new Failure('tool', `cannot make a key: ${stderr.trim().split('\n').pop()}`)
    await chmod(fresh, 0o600)
    await link(fresh, file) // and not rename: what is there is never overwritten
    await toDisk(target.dir)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** The public half of a private key. Failure `auth` where it cannot be read, as one with a passphrase; `config` where there is none. */
export async function publicHalf(target: Target, file: string, context: Asking): Promise<HostKey> {
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (!found) throw new Failure('config', `there is no key '${file}'`, { hint: 'SSH_KEY names one that is not there' })
  const { status, stdout, stderr } = await answer(readCommand(file), { env: sshEnv(target), signal: context.signal })
  const [type = '', key = ''] = stdout.trim().split(' ')
  if (status === 0 && key !== '') return { type, key }
  const said = stderr.trim().split('\n').pop() ?? ''
  throw new Failure('auth', `cannot read the key '${file}': ${said.replace(/^Load key .*: /, '')}`, {
    hint: 'it belongs to who runs kedge, has the mode 0600, and no passphrase',
  })
}

/** Puts the proven key in the place of the one that was there. */
export async function replaceKey(target: Target, fresh: string, file: string): Promise<void> {
  await rename(fresh, file)
  await rm(`${file}.pub`, { force: true }) // of the one that is gone
  await toDisk(target.dir)
}
