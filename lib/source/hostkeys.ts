// The keys by which hosts are known: what a host shows, what kedge's known_hosts has of it, and a text with others in their place.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { answer } from '../child.ts'
import type { Context, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { connectSeconds, knownHosts, sshCommand, sshEnv } from './ssh.ts'

export type HostKey = { readonly type: string; readonly key: string }
/** `line`: from 1. `mark`: 'CA' or 'REVOKED' where the line has one, else empty. */
export type Known = HostKey & { readonly line: number; readonly mark: string }
/** Where ssh would go, by its own configuration too; `name`: under which it looks the host up. */
export type Place = {
  readonly host: string
  readonly port: number
  readonly name: string
  readonly user: string
  readonly proxied: boolean
}

/** As ssh-keygen -l shows it. */
export const fingerprint = ({ key }: Pick<HostKey, 'key'>): string =>
  `SHA256:${createHash('sha256').update(Buffer.from(key, 'base64')).digest('base64').replace(/=+$/, '')}`

/** The name of a host in known_hosts, as ssh writes it. */
export const lookupName = (host: string, port: number): string => (port === 22 ? host : `[${host}]:${port}`)

const preferred = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521', 'ssh-rsa']

/** Lines of ssh-keyscan: a name, the type, the key. Those that ssh likes best come first. */
export function parseScan(text: string): HostKey[] {
  const found = text.split('\n').flatMap((line) => {
    const [, type, key] = /^[^#\s]\S* (\S+) ([A-Za-z0-9+/]+=*)/.exec(line) ?? []
    return type && key ? [{ type, key }] : []
  })
  const rank = ({ type }: HostKey) => (preferred.includes(type) ? preferred.indexOf(type) : preferred.length)
  return found.sort((a, b) => rank(a) - rank(b))
}

/** `ssh -G`: a setting a line. */
export function parsePlace(text: string): Place {
  const settings = new Map(text.split('\n').map((line) => [line.split(' ', 1)[0] ?? '', line.slice(line.indexOf(' ') + 1)]))
  const host = settings.get('hostname') ?? ''
  const port = Number(settings.get('port') ?? 22)
  const off = (key: string) => ['none', undefined].includes(settings.get(key))
  return {
    host,
    port,
    name: settings.get('hostkeyalias') ?? lookupName(host, port),
    user: settings.get('user') ?? '',
    proxied: !off('proxyjump') || !off('proxycommand'),
  }
}

/** `ssh-keygen -F`: a comment with the number of the line, then the line, which may begin with a mark. */
export function parseKnown(text: string): Known[] {
  const found: Known[] = []
  let line = 0
  let mark = ''
  for (const each of text.split('\n')) {
    const [, number, what] = /^# Host .* found: line (\d+)(?: (\S+))?/.exec(each) ?? []
    if (number) {
      line = Number(number)
      mark = what ?? ''
    } else if (each !== '') {
      const [type = '', key = ''] = each
        .replace(/^@\S+ /, '')
        .split(/\s+/)
        .slice(1)
      found.push({ type, key, line, mark })
    }
  }
  return found
}

/** The keys in the place of those that were known by the name; other hosts' lines, comments and marked lines stay. Pure. */
export function withHostKeys(text: string, name: string, keys: readonly HostKey[], known: readonly Known[]): string {
  const gone = new Set(known.filter(({ mark }) => mark === '').map(({ line }) => line))
  const lines = text.replace(/\n$/, '').split('\n')
  const kept = text === '' ? [] : lines.filter((_, index) => !gone.has(index + 1))
  return [...kept, ...keys.map(({ type, key }) => `${name} ${type} ${key}`)].map((line) => `${line}\n`).join('')
}

/** Where the target's host is, by ssh's own configuration. Failure `config` where that is not valid. */
export async function placeOf(target: Target, context: Pick<Context, 'signal'>): Promise<Place> {
  const [ssh = '', ...options] = sshCommand(target)
  const { status, stdout, stderr } = await answer([ssh, '-G', ...options, target.env.SOURCE_HOST ?? ''], asked(target, context))
  if (status === 0) return parsePlace(stdout)
  throw new Failure('config', `cannot tell where '${target.env.SOURCE_HOST}' is: ${stderr.trim().split('\n').pop()}`, {
    hint: 'see SSH_ARGS, and ssh_config(5)',
  })
}

export const scanCommand = (target: Pick<Target, 'env'>, { host, port }: Pick<Place, 'host' | 'port'>): string[] => [
  ...['ssh-keyscan', '-T', String(connectSeconds(target))],
  ...(port === 22 ? [] : ['-p', String(port)]),
  host,
]

/** The keys that the host shows now: nobody has vouched for them. Failure `unreachable` where it shows none. */
export async function scan(target: Target, place: Place, context: Pick<Context, 'signal'>): Promise<HostKey[]> {
  if (place.proxied)
    throw new Failure('config', `cannot ask '${place.host}' for its keys: ssh reaches it through another host`, {
      hint: `put its line into '${knownHosts()}' yourself: '${place.name} ' and what ssh-keyscan prints there behind the name`,
    })
  const timeout = 3 * connectSeconds(target) + 10
  const { stdout, stderr } = await answer(scanCommand(target, place), { ...asked(target, context), timeout })
  const keys = parseScan(stdout)
  if (keys.length > 0) return keys
  const said = stderr.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'))
  throw new Failure('unreachable', `'${place.name}' shows no host key: ${said.pop()?.trim() || 'no answer'}`, {
    hint: 'does its sshd run? SOURCE_HOST and SOURCE_PORT name it',
  })
}

/** What kedge knows the host by; hashed names too. */
export async function knownOf(target: Target, name: string, context: Pick<Context, 'signal'>): Promise<Known[]> {
  if (!existsSync(knownHosts())) return []
  const { stdout } = await answer(['ssh-keygen', '-F', name, '-f', knownHosts()], asked(target, context))
  return parseKnown(stdout) // status 1: none
}

const asked = (target: Target, { signal }: Pick<Context, 'signal'>) => ({ env: sshEnv(target), signal })
