// A source on another host, reached over SSH: which host, and the words of the ssh that reaches it.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { parseDuration } from '../format.ts'
import { byBlanks } from '../keys.ts'
import { configDir } from '../paths.ts'
import { shown } from '../shell.ts'

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

/**
 * ssh without the host: it asks nobody, gives up on a host that does not answer, knows hosts by kedge's own file only, and notices a
 * link that died. `control`: the socket of a connection that several share.
 */
export function sshCommand(target: Target, control?: string): string[] {
  const seconds = Math.max(1, Math.round(parseDuration(target.env.CONNECT_TIMEOUT ?? '') ?? 60))
  const key = keyOf(target)
  const options: Record<string, string> = {
    BatchMode: 'yes',
    ConnectTimeout: String(seconds),
    ServerAliveInterval: '15',
    ServerAliveCountMax: '4',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: knownHosts(),
    GlobalKnownHostsFile: '/dev/null',
    ...(key && { IdentitiesOnly: 'yes' }),
    ...(control && { ControlMaster: 'auto', ControlPersist: '60', ControlPath: control }),
  }
  return [
    'ssh',
    ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
    ...(target.env.SOURCE_PORT ? ['-p', target.env.SOURCE_PORT] : []),
    ...(key ? ['-i', key] : []),
    ...byBlanks(target.env.SSH_ARGS),
  ]
}

/** The same for rsync's -e, which parts words at blanks and knows quotes. */
export const remoteShell = (target: Target, control?: string): string => shown(sshCommand(target, control))

/** The host as rsync wants it before a path: an IPv6 address in brackets. */
export function rsyncHost(target: Target): string {
  const [, user = '', host = ''] = /^(.*@)?(.*)$/.exec(target.env.SOURCE_HOST ?? '') ?? []
  return host.includes(':') && !host.startsWith('[') ? `${user}[${host}]` : `${user}${host}`
}
