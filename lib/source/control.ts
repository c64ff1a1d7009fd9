// One connection to a host that several questions share. Its master is a child like any other, in the foreground: it ends with kedge,
// even where that is killed, and takes its socket and their folder along; a master that ssh sends to the background would stay.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { answer, type Child, type Exit, start } from '../child.ts'
import type { Context, Target } from '../contract.ts'
import { findInPath } from '../executable.ts'
import { Failure } from '../failure.ts'
import { explained, shown } from '../shell.ts'
import { connectSeconds, optionPath, sshCommand, sshEnv } from './ssh.ts'
import { sshFailure } from './sshfailure.ts'

export type Control = {
  /** The socket, for sshCommand. */
  readonly path: string
  readonly end: () => Promise<void>
}
type Asking = Pick<Context, 'signal' | 'detail'>

/** Bytes of a socket's path: 104 on OpenBSD with the NUL, less the 17 of the name under which ssh makes it first. */
const longest = 86
/** Seconds for what comes after the connection: the exchange of keys and the login. */
const login = 30

// Deaf to the end of its group until ssh has ended, so that the folder goes too. It says of what ended ssh on a pipe that nobody reads.
const keeper = 'trap : HUP INT TERM PIPE; "$@"; s=$?; rm -rf -- "$0"; exit $s'

/** ssh that logs in, runs nothing, and says so; with a key of its own also which key was let in. */
export const masterCommand = (target: Target, socket: string, key?: string): string[] => [
  ...sshCommand(target, undefined, key),
  ...(key ? ['-v'] : []),
  ...['-o', 'ControlMaster=yes', '-o', 'ControlPersist=no', '-o', `ControlPath=${optionPath(socket)}`],
  ...['-o', 'PermitLocalCommand=yes', '-o', 'LocalCommand=echo ready', '-N', target.env.SOURCE_HOST ?? ''],
]

/**
 * Logs in to the target's host. `only`: with this key and no other, as a proof of it; ssh's own configuration may name more, and what
 * counts is the one that the host let in. Failure auth, unreachable, config, tool.
 */
export async function connect(
  target: Target,
  context: Asking,
  only?: { readonly file: string; readonly fingerprint: string },
): Promise<Control> {
  needSsh()
  const base = Buffer.byteLength(join(tmpdir(), 'kedge-XXXXXX/s')) <= longest ? tmpdir() : '/tmp'
  const folder = await mkdtemp(join(base, 'kedge-'))
  const path = join(folder, 's')
  const command = masterCommand(target, path, only?.file)
  context.detail(`running: ${explained(command)}`)
  let master: Child | undefined
  const end = async () => {
    master?.end()
    await master?.done.catch(() => undefined) // how a connection ended that nobody needs any more
    await rm(folder, { recursive: true, force: true })
  }
  try {
    let letIn = ''
    const onStderr = (line: string) => {
      letIn = /^debug1: Server accepts key: .*(SHA256:\S+)/.exec(line)?.[1] ?? letIn
    }
    const options = { env: sshEnv(target), signal: context.signal, grace: 5, relays: true, onStderr }
    master = start(['/bin/sh', '-c', keeper, folder, ...command], options)
    const exit = await readied(master, connectSeconds(target) + login)
    if (exit) throw sshFailure(target, exit === 'late' ? 'timed out' : exit.stderr.replace(/^debug\d: .*$/gm, ''))
    if (only && letIn !== only.fingerprint) throw sshFailure(target, 'Permission denied')
    return { path, end }
  } catch (error) {
    await end()
    throw error
  }
}

/** Undefined once it has logged in; else how it ended, or that the time was over. */
async function readied(master: Child, seconds: number): Promise<Exit | 'late' | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), seconds * 1000)
  })
  const said = new Promise<undefined>((resolve) => {
    let text = ''
    master.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      if (/^ready$/m.test(text)) resolve(undefined)
    })
  })
  try {
    return await Promise.race([said, late, master.done])
  } finally {
    clearTimeout(timer)
  }
}

/** `what` is nothing that ssh could take for an option of its own. */
export const askCommand = (target: Target, what: readonly string[], control?: Pick<Control, 'path'>): string[] => [
  ...sshCommand(target, control?.path),
  target.env.SOURCE_HOST ?? '',
  ...(what.length > 0 ? [shown(what)] : []),
]

export type Answer = Exit & { readonly stdout: string }

/** What an ssh to the host says, its own failures too. Failure `tool` where there is none. */
export async function relay(target: Target, command: readonly string[], context: Asking): Promise<Answer> {
  needSsh()
  context.detail(`running: ${explained(command)}`)
  const timeout = connectSeconds(target) + login
  return await answer(command, { env: sshEnv(target), signal: context.signal, timeout, relays: true })
}

/**
 * A short answer from the host: its sh gets the words quoted. Any status of theirs is an answer, 127 for a program that is not there.
 * Failure auth, unreachable, config, tool where ssh itself fails.
 */
export async function askHost(target: Target, what: readonly string[], context: Asking, control?: Pick<Control, 'path'>): Promise<Answer> {
  const said = await relay(target, askCommand(target, what, control), context)
  if (said.status === 255) throw sshFailure(target, said.stderr)
  return said
}

function needSsh(): void {
  if (!findInPath('ssh')) throw new Failure('tool', 'there is no ssh in PATH', { hint: 'install the OpenSSH client' })
}
