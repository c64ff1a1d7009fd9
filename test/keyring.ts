// gpg with keys of its own, for a test's machine and for the test itself.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import type { Machine } from './harness.ts'

export type Gpg = (args: readonly string[], input?: string) => string

/** Keys without passphrases for these people at example.org. Gives gpg, as the test calls it. */
export function keyring(m: Machine, ...people: string[]): Gpg {
  // A short path: the agent's sockets lie in it where there is no /run/user.
  const home = fs.mkdtempSync('/tmp/kr-')
  m.env.GNUPGHOME = home
  const env = { ...process.env, GNUPGHOME: home }
  m.t.after(() => {
    execFileSync('gpgconf', ['--kill', 'all'], { env })
    fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 })
  })
  const quiet = ['--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', '']
  const gpg: Gpg = (args, input) =>
    execFileSync('gpg', [...quiet, ...args], { env, input, stdio: ['pipe', 'pipe', 'ignore'], encoding: 'utf8' })
  for (const name of people) gpg(['--quick-gen-key', `${name}@example.org`, 'future-default', 'default', 'never'])
  return gpg
}
