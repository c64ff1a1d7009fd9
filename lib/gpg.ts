// gpg and its agent: for files encrypted to a key, which the agent holds, and for ciphers that OpenPGP.js does not know.
import { isatty } from 'node:tty'
import { answer } from './child.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'

// Somebody may have to find the smart card or type a passphrase into pinentry.
const timeout = 180

/** What the file holds. Failure `auth` where neither the agent's keys nor the passphrase open it. */
export async function decryptByGpg(file: string, signal: AbortSignal | undefined, passphrase?: string): Promise<string> {
  const loopback = passphrase === undefined ? [] : ['--no-symkey-cache', '--pinentry-mode', 'loopback', '--passphrase-fd', '3']
  const command = ['gpg', '--batch', '--status-fd', '2', ...loopback, '--decrypt', '--', file]
  const { status, stdout, stderr } = await answer(command, { env: env(), stdin: keyboard(), signal, give: [passphrase], timeout })
  // gpg prints what it does not trust as well, and gives plain data back as it is: only these two together mean an opened message.
  if (status === 0 && /^\[GNUPG:\] DECRYPTION_OKAY/m.test(stderr)) return stdout
  if (passphrase !== undefined && /BAD_PASSPHRASE|Bad session key/.test(stderr)) throw wrongPassphrase(file)
  const key = /^\[GNUPG:\] NO_SECKEY (\w+)/m.exec(stderr)?.[1]
  throw new Failure('auth', `cannot open '${file}': ${key ? `no secret key ${key}` : (said(stderr).pop() ?? 'gpg gave no reason')}`, {
    hint: `gpg --decrypt '${file}' tries it by hand, as this user`,
  })
}

/**
 * An armored message to the keys of `recipients`, and to a passphrase as well where one is given. Failure `auth` where gpg has no such
 * key, or does not trust it.
 */
export async function encryptByGpg(
  file: string,
  text: string,
  recipients: readonly string[],
  signal: AbortSignal | undefined,
  passphrase?: string,
): Promise<string> {
  const symmetric =
    passphrase === undefined ? [] : ['--symmetric', '--no-symkey-cache', '--pinentry-mode', 'loopback', '--passphrase-fd', '3']
  const to = recipients.flatMap((recipient) => ['--recipient', recipient])
  // A key that is not here is a mistake: nobody is asked for it over the network.
  const command = ['gpg', '--batch', '--no-auto-key-locate', '--armor', ...symmetric, '--encrypt', ...to]
  const { status, stdout, stderr } = await answer(command, { env: env(), input: text, signal, give: [passphrase], timeout })
  if (status === 0) return stdout
  const names = recipients.map((recipient) => `'${recipient}'`).join(', ')
  throw new Failure('auth', `cannot seal '${file}' to ${names}: ${said(stderr)[0] ?? 'gpg gave no reason'}`, {
    hint: 'gpg --list-secret-keys names the keys that are here',
  })
}

export const wrongPassphrase = (file: string) =>
  new Failure('auth', `cannot open '${file}': wrong passphrase`, { hint: 'a damaged file looks the same; gpg --decrypt opens it by hand' })

/** gpg finds its keys, its agent, and a screen for pinentry by these. */
export const gpgVars = ['GNUPGHOME', 'GPG_TTY', 'DISPLAY', 'WAYLAND_DISPLAY', 'XAUTHORITY', 'DBUS_SESSION_BUS_ADDRESS'] as const
const env = () => callerEnv(gpgVars)

/** Where GPG_TTY is not set gpg tells its agent the terminal that it has as stdin, though it reads nothing there. */
const keyboard = () => (isatty(0) ? 0 : 'ignore')

/** Whether gpg has the public key here. */
export async function knowsKey(key: string, signal: AbortSignal): Promise<boolean> {
  const { status } = await answer(['gpg', '--batch', '--with-colons', '--list-keys', '--', key], { env: env(), signal, timeout })
  return status === 0
}

/** What gpg wrote for people. */
function said(stderr: string): string[] {
  const lines = stderr.split('\n').filter((line) => line.trim() && !line.startsWith('[GNUPG:]'))
  return lines.map((line) => line.replace(/^gpg: /, '').trim())
}
