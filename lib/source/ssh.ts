// A source on another host, reached over SSH: which host, and the words of the ssh that reaches it.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { parseDuration } from '../format.ts'
import { byBlanks, words } from '../keys.ts'
import { configDir } from '../paths.ts'

/** The host keys that kedge trusts, for all targets. */
export const knownHosts = (): string => join(configDir(), 'known_hosts')

/** The key that `kedge key` makes for a target. */
export const ownKey = (target: Pick<Target, 'dir'>): string => join(target.dir, 'ssh_key')

export const isRemote = ({ env }: Pick<Target, 'env'>): boolean => Boolean(env.SOURCE_HOST)

/** The private key that ssh is told to use; undefined: whatever ssh's own configuration and the agent have. */
export function keyOf(target: Target): string | undefined {
  if (target.env.SSH_KEY) return target.env.SSH_KEY
  return existsSync(ownKey(target)) ? ownKey(target) : undefined
}

/** Seconds in which a host has to answer. */
export const connectSeconds = ({ env }: Pick<Target, 'env'>): number =>
  Math.max(1, Math.round(parseDuration(env.CONNECT_TIMEOUT ?? '') ?? 60))

/** A file's name as ssh's options want it: they part words at blanks, know quotes and backslashes, and expand what follows a percent sign. */
export const optionPath = (path: string): string => {
  const plain = path.replaceAll('%', '%%')
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `"${plain.replace(/["\\]/g, '\\$&')}"`
}

/**
 * ssh without the host: it asks nobody, gives up on a host that does not answer, knows hosts by kedge's own file only, and notices a
 * link that died. `control`: the socket of a connection that is there (lib/source/control.ts); ssh makes one of its own where it is gone.
 */
export function sshCommand(target: Target, control?: string, key = keyOf(target)): string[] {
  const options: Record<string, string> = {
    BatchMode: 'yes',
    ConnectTimeout: String(connectSeconds(target)),
    ServerAliveInterval: '15',
    ServerAliveCountMax: '4',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: optionPath(knownHosts()),
    GlobalKnownHostsFile: '/dev/null',
    KnownHostsCommand: 'none',
    NoHostAuthenticationForLocalhost: 'no',
    // -i looks for the file before it expands the name.
    ...(key && { IdentitiesOnly: 'yes', IdentityFile: optionPath(key) }),
    ...(control && { ControlPath: optionPath(control) }),
  }
  return [
    'ssh',
    ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
    ...(target.env.SOURCE_PORT ? ['-p', target.env.SOURCE_PORT] : []),
    ...byBlanks(target.env.SSH_ARGS),
  ]
}

/** Messages of ssh, and of what Debian's configuration lets it pass on to the host, in English. */
export const sshEnv = (target: Target): Record<string, string> => ({ ...callerEnv(words(target.env.PASS_ENV)), LC_ALL: 'C' })

/** The same for rsync's -e, which parts words at blanks; within quotes it reads two of them as one, and knows no backslash. */
export const remoteShell = (target: Target, control?: string): string => sshCommand(target, control).map(rsyncWord).join(' ')

const rsyncWord = (word: string): string => (/^[^\s'"]+$/.test(word) ? word : `'${word.replaceAll("'", "''")}'`)

/** The host as rsync wants it before a path: an IPv6 address in brackets. */
export function rsyncHost(target: Target): string {
  const [, user = '', host = ''] = /^(.*@)?(.*)$/.exec(target.env.SOURCE_HOST ?? '') ?? []
  return host.includes(':') && !host.startsWith('[') ? `${user}[${host}]` : `${user}${host}`
}

/**
 * A path as the host's shell reads it. Backslashes, which rrsync and kedge's forced command take for the same; a line feed cannot have one.
 * Measured with rrsync of 3.5.0: of single quotes it knows nothing.
 */
export const hostWord = (path: string): string =>
  path
    .split('\n')
    .map((line) => line.replace(/[\x00-\x7f]/g, (char) => (/[\w@%+=:,./-]/.test(char) ? char : `\\${char}`)))
    .join("'\n'")
