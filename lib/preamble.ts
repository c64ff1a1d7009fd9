// What sets the environment for the commands that --explain prints: whatever kedge accepts, sh reads to the same values.
import { join } from 'node:path'
import type { Target } from './contract.ts'
import type { CommandLine } from './rows.ts'
import { quote } from './shell.ts'

export function* preamble(target: Target): Generator<CommandLine> {
  const own = join(target.dir, 'target.env')
  const files = [...new Set([...Object.values(target.origin).map(({ file }) => file), own])]
  const lines = ['set -a', ...files.map((file) => `. ${quote(file)}`), ...secretLines(target), 'set +a']
  yield { kind: 'command', command: lines.join('; ') }
}

function secretLines(target: Target): string[] {
  const at = (name: string) => quote(join(target.dir, name))
  switch (target.secret) {
    case 'gpg':
      return [`eval "$(gpg --decrypt ${at('secret.env.gpg')})"`]
    case 'command':
      return [`eval "$(${target.env.SECRET_COMMAND ?? ''})"`]
    case 'credential':
      return [`eval "$(systemd-creds decrypt --name=kedge-${target.name} ${at('secret.cred')} -)"`]
    case 'file':
      return [`. ${at('secret.env')}`]
    case 'none':
      return []
  }
}
