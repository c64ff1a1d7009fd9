// gpg-agent: which keys it can use without a question, and for how long.
import { answer } from './child.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'
import { gpgVars } from './gpg.ts'
import { isTerminal } from './log.ts'

/** `none`: the key has no passphrase; `held`: the agent knows it; `card`: the key lies on a card, which has its own rules. */
export type KeyState = 'none' | 'held' | 'asked' | 'card' | 'unknown'
export type AgentLimits = { /** Seconds since the last use. */ idle: number /** Seconds since it was typed. */; longest: number }

/** The environment of gpg and its helpers; the agent's pinentry asks on the terminal of GPG_TTY. */
export async function agentEnv(): Promise<Record<string, string>> {
  const env = callerEnv(gpgVars)
  const fd = [0, 2, 1].find(isTerminal)
  if (env.GPG_TTY !== undefined || fd === undefined) return env
  const { status, stdout } = await answer(['tty'], { stdin: fd, env })
  return status === 0 ? { ...env, GPG_TTY: stdout.trim() } : env
}

/** The lines of `gpgconf --list-options gpg-agent`: name:flags:level:text:type:alt-type:unit:default:default-arg:value (gnupg's manual). */
export function parseLimits(options: string): AgentLimits {
  const seconds = (name: string) => {
    const fields = options
      .split('\n')
      .find((line) => line.startsWith(`${name}:`))
      ?.split(':')
    const text = fields?.[9] || fields?.[7] || ''
    if (!/^\d+$/.test(text)) throw new Failure('tool', `cannot tell how long gpg-agent holds a key: gpgconf does not give ${name}`)
    return Number(text)
  }
  return { idle: seconds('default-cache-ttl'), longest: seconds('max-cache-ttl') }
}

export async function agentLimits(signal: AbortSignal): Promise<AgentLimits> {
  const { status, stdout, stderr } = await answer(['gpgconf', '--list-options', 'gpg-agent'], { env: callerEnv(gpgVars), signal })
  if (status !== 0) throw new Failure('tool', `cannot ask gpgconf for gpg-agent's settings: ${stderr.trim().split('\n').pop()}`)
  return parseLimits(stdout)
}

/**
 * How a secret key stands with the agent. `key`: an id or fingerprint, also of a subkey. The answer's fields are those of KEYINFO:
 * keygrip, type (T: a card), serial number, id, cached (1), protection (P: a passphrase, C: none).
 */
export async function keyState(key: string, signal: AbortSignal): Promise<KeyState> {
  const options = { env: callerEnv(gpgVars), signal }
  const list = await answer(['gpg', '--batch', '--with-colons', '--with-keygrip', '--list-secret-keys', '--', key], options)
  const grip = keygrip(list.stdout, key)
  if (list.status !== 0 || grip === undefined) return 'unknown'
  const { stdout } = await answer(['gpg-connect-agent', `KEYINFO ${grip}`, '/bye'], options)
  return parseKeyInfo(stdout)
}

/** The keygrip of a key, in gpg's colon listing: `fpr` and `grp` follow each key. */
export function keygrip(listing: string, key: string): string | undefined {
  const lines = listing.split('\n').map((line) => line.split(':'))
  const at = lines.findIndex(([kind, ...fields]) => kind === 'fpr' && fields[8]?.endsWith(key))
  return at < 0 ? undefined : lines.slice(at).find(([kind]) => kind === 'grp')?.[9]
}

export function parseKeyInfo(text: string): KeyState {
  const fields = text
    .split('\n')
    .find((line) => line.startsWith('S KEYINFO '))
    ?.split(' ')
  if (!fields) return 'unknown'
  if (fields[3] === 'T') return 'card'
  if (fields[7] === 'C') return 'none'
  return fields[6] === '1' ? 'held' : 'asked'
}
