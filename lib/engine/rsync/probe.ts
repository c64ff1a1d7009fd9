// What the rsync on the other host is, asked before a run: by the greeting of its protocol, which each account that may send gives, one
// with a forced command too; its version and its clock where the account may run more.
import type { Context, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { byBlanks } from '../../keys.ts'
import { askHost, type Control, connect } from '../../source/control.ts'
import { type Flavour, parseVersion } from './version.ts'

export type Probe = {
  readonly flavour: Flavour
  readonly protocol: number
  /** Of its version; undefined where the account may not ask for it. */
  readonly numbers: readonly number[] | undefined
  /** 'rsync 3.2.7', 'openrsync', or 'rsync (protocol 31)'. */
  readonly text: string
  /** Seconds that its clock is ahead of this machine's; undefined where the account may not ask. */
  readonly skew: number | undefined
}
type Asking = Pick<Context, 'signal' | 'detail'>
type Answer = { readonly status: number; readonly stdout: string; readonly stderr: string }

/** The host's rsync, in the words of SOURCE_RSYNC. */
export const remoteRsync = ({ env }: Pick<Target, 'env'>): string[] => (env.SOURCE_RSYNC ? byBlanks(env.SOURCE_RSYNC) : ['rsync'])

/** An rsync that is to send, and is told nothing: it says its protocol, reads the end of its input, and ends. */
export const greeting = (target: Pick<Target, 'env'>): string[] => [
  ...remoteRsync(target),
  ...['--server', '--sender', '-logDtpre.LsfxCIvu', '--numeric-ids', '.', '.'],
]

/** Seconds since 1970, then the version: of the program itself, since sudo may be allowed for sending only. */
export const question = (target: Pick<Target, 'env'>): string[] => [
  ...['sh', '-c', 'date -u +%s; exec "$@" 2>&1', 'sh'],
  ...[remoteRsync(target).at(-1) ?? 'rsync', '--version'],
]

/** Protocols of GNU's since 3.0; openrsync has 27 on OpenBSD and 29 elsewhere. */
const oldestGnu = 30

/** The number with which an rsync begins: four bytes, the lowest first. Undefined where it is none. Pure. */
export function greeted(stdout: string): number | undefined {
  const [, number] = /^([\x14-\x7f])\0\0\0/.exec(stdout) ?? []
  return number?.charCodeAt(0)
}

/** Asks the target's host, through a connection of its own unless one is given. Failure auth, unreachable, permission, config, tool. */
export async function probe(target: Target, context: Asking, given?: Pick<Control, 'path'>): Promise<Probe> {
  const own = given ? undefined : await connect(target, context)
  const control = given ?? own
  try {
    const first = await askHost(target, greeting(target), context, control)
    const protocol = greeted(first.stdout)
    if (protocol === undefined) throw notGreeted(target, first)
    const before = Date.now()
    const more = await askHost(target, question(target), context, control)
    return judged(protocol, more, (before + Date.now()) / 2)
  } finally {
    await own?.end()
  }
}

/** `now`: milliseconds, when the question was under way. Pure. */
export function judged(protocol: number, more: Answer, now: number): Probe {
  const [, seconds] = /^(\d{9,11})\n/.exec(more.stdout) ?? []
  const version = parseVersion(more.stdout)
  const flavour = version?.flavour ?? (protocol < oldestGnu ? 'openrsync' : 'rsync')
  return {
    flavour,
    protocol,
    numbers: version?.flavour === 'rsync' ? version.numbers : undefined,
    text: version?.text ?? (flavour === 'openrsync' ? 'openrsync' : `rsync (protocol ${protocol})`),
    // A clock that shows whole seconds is half a second behind on average.
    skew: seconds === undefined ? undefined : Math.round(Number(seconds) + 0.5 - now / 1000),
  }
}

/** Why no rsync answered. Pure. */
export function notGreeted(target: Pick<Target, 'name' | 'env'>, { status, stdout, stderr }: Answer): Failure {
  const host = target.env.SOURCE_HOST ?? ''
  const program = remoteRsync(target).join(' ')
  const said =
    stderr
      .trim()
      .split('\n')
      .find((line) => line.trim() !== '') ?? ''
  const cannot = `cannot run '${program}' on '${host}'`
  if (stdout.trim() !== '')
    return new Failure('config', `${cannot}: the account prints text before the answer: '${stdout.trim().split('\n')[0]}'`, {
      hint: 'what its shell reads at the start (.bashrc, .profile, .cshrc) must print nothing where no terminal is',
    })
  if (/\b(sudo|doas)\b.*(password|required|not permitted|may not run|not allowed|tty|Authentication)|not in the sudoers/i.test(stderr))
    return new Failure('permission', `${cannot}: ${said}`, {
      hint: `kedge key ${target.name} --as sudo (or doas) prints the rules that the host needs`,
    })
  if (status === 127 || status === 126 || /not found|No such file or directory/i.test(said))
    return new Failure('config', `${cannot}: ${said || 'not found'}`, {
      hint: "install rsync there; SOURCE_RSYNC names one that is not in the account's PATH, or openrsync",
    })
  return new Failure('config', `${cannot}: ${said || `it ended with status ${status}`}`, {
    hint: `kedge key ${target.name} --test tells what the key permits`,
  })
}
