// key: the key by which a target reads another host, and the keys by which that host is known
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'make the SSH key of a target, confirm the keys of its host, and prove what the key permits',
    operands: 'target',
    options: {
      as: { value: 'VARIANT', help: 'how the account there is bound: command (default), sudo, doas, rrsync, plain' },
      host: { help: 'only show and confirm the keys of the host, those of one that was set up anew too' },
      fingerprint: { value: 'FINGERPRINT', many: true, help: 'the host has this key (SHA256:...): nobody is asked' },
      new: { help: 'make another key; the next call puts it in place, once the host lets it in' },
      test: { help: 'prove what the key permits on the host and what it refuses' },
      script: { help: 'print the forced command that the host needs' },
    },
    columns: {
      file: ['path', 'action', 'target'],
      authorized: ['line'],
      hostkey: ['fingerprint', 'type', 'host', 'action', 'target'],
      finding: ['check', 'level', 'text', 'remedy', 'target'],
    },
    changes: true,
    locks: true,
  },
  async function* ({ options, operands: [name = ''], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { keyOfTarget } = await import('../lib/sshkey.ts')
    return yield* keyOfTarget(await loadTarget(name), options, context)
  },
)
