// What ssh says when it fails -> failures. Its status is 255 whatever the cause: only the text tells.
import type { Target } from '../contract.ts'
import { type Class, Failure } from '../failure.ts'

type Cause = readonly [pattern: RegExp, kind: Class, cause: string, hint: (target: Pick<Target, 'name' | 'dir'>) => string]

const up = () => 'is the host up, and the network there? SOURCE_HOST and SOURCE_PORT name it'
const own = ({ name }: Pick<Target, 'name'>) => `kedge key ${name} prints the line that the account's authorized_keys there needs`

// The first that matches; what names its cause stands before what only says that it is over. Facts: OpenSSH 9.2's messages.
const causes: readonly Cause[] = [
  [
    /REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed|DNS SPOOFING DETECTED/i,
    'auth',
    'its host key is ANOTHER ONE than the one that was confirmed: somebody may sit between this machine and the host',
    ({ name }) => `ask who runs the host; only where it was set up anew: kedge key ${name} --host`,
  ],
  [/REVOKED HOST KEY/i, 'auth', 'its host key is marked as revoked', ({ name }) => `once it has another one: kedge key ${name} --host`],
  [
    /No \S+ host key is known for|Host key verification failed/i,
    'auth',
    'its host key is not known',
    ({ name }) => `kedge key ${name} --host shows it, and asks`,
  ],
  [
    /UNPROTECTED PRIVATE KEY FILE|bad permissions/i,
    'auth',
    'the private key can be read by others, so that ssh does not use it',
    ({ dir }) => `chmod 600 the key: '${dir}/ssh_key', or what SSH_KEY names`,
  ],
  [
    /Load key .*(invalid format|error in libcrypto|incorrect passphrase)/i,
    'auth',
    'the private key cannot be read',
    ({ name }) => `kedge key ${name} says which one it is; a key with a passphrase needs an agent`,
  ],
  [/Identity file .* not accessible/i, 'auth', 'the private key is not there', ({ name }) => `kedge key ${name} makes one`],
  [/Permission denied|Too many authentication failures|No more authentication methods/i, 'auth', 'the key is not let in', own],
  [/Could not resolve hostname/i, 'unreachable', 'its name cannot be resolved', up],
  [/Connection refused/i, 'unreachable', 'connection refused', () => 'does its sshd run? SOURCE_PORT names the port'],
  [/timed out|Timeout, server/i, 'unreachable', 'no answer in time', up],
  [/No route to host|Network is unreachable|Host is down/i, 'unreachable', 'no route to it', up],
  [
    /no matching (host key type|key exchange method|cipher|MAC)/i,
    'config',
    'it and this ssh have no algorithm in common',
    () => 'SSH_ARGS can name one that both have, such as -oHostKeyAlgorithms=+ssh-rsa',
  ],
  [
    /Bad configuration option|Bad owner or permissions|keyword .* extra arguments|unknown option/i,
    'config',
    '',
    () => 'see SSH_ARGS, and ssh_config(5)',
  ],
  [/Connection (closed|reset)|kex_exchange_identification|Broken pipe|banner exchange/i, 'unreachable', 'the connection was closed', up],
]

/** The failure that an ssh with status 255 stands for. `said`: its stderr. */
export function sshFailure(target: Pick<Target, 'name' | 'dir' | 'env'>, said: string): Failure {
  const host = target.env.SOURCE_HOST ?? ''
  const found = causes.find(([pattern]) => pattern.test(said))
  const last = said.trim().split('\n').pop()?.trim() || 'ssh gave no reason'
  const [, kind, cause, hint] = found ?? [/./, 'unreachable' as const, '', up]
  return new Failure(kind, `cannot reach '${host}': ${cause || last}`, { hint: hint(target) })
}
