// secret: a target's secrets looked at, edited, sealed, and their password changed
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'show, edit, seal and check the secrets of a target, and rotate its password',
    operands: 'show-keys|edit|seal|reseal|rotate-password|check target',
    options: {
      to: { value: 'PROVIDER', help: 'seal, reseal: gpg or credential; reseal: file too' },
      recipient: { value: 'KEY', many: true, help: 'seal, reseal: encrypt to this gpg key' },
      'new-passphrase-fd': { value: 'N', as: 'count', help: 'seal, reseal: read the new passphrase from this descriptor' },
    },
    columns: {
      secret: ['key', 'from', 'target'],
      file: ['path', 'action', 'target'],
      rotated: ['step', 'key', 'text', 'target'],
      finding: ['check', 'level', 'text', 'remedy', 'target'],
    },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options, operands: [action = '', name = ''], context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const { nearest } = await import('../lib/nearest.ts')
    const actions = ['show-keys', 'edit', 'seal', 'reseal', 'rotate-password', 'check']
    if (!actions.includes(action)) {
      const like = nearest(action, actions)
      throw new Failure('misuse', `no action '${action}'`, { hint: like ? `did you mean ${like}?` : actions.join(', ') })
    }
    const { to, recipient: recipients, 'new-passphrase-fd': newPassphraseFd } = options
    const sealing = action === 'seal' || action === 'reseal'
    const stray = to !== undefined ? 'to' : recipients.length > 0 ? 'recipient' : newPassphraseFd !== undefined ? 'new-passphrase-fd' : ''
    if (stray && !sealing) throw new Failure('misuse', `option '--${stray}' is for seal and reseal`)
    const target = await loadTarget(name)
    const { sweepPrivate, diskFolder } = await import('../lib/privatefile.ts')
    if (context.mode === 'act') await sweepPrivate(diskFolder(target.name), context)
    if (sealing) {
      const { reseal } = await import('../lib/reseal.ts')
      return yield* reseal(target, { action, to, recipients, newPassphraseFd }, context)
    }
    if (action === 'show-keys' || action === 'check') {
      const { showKeys, checkSecrets } = await import('../lib/secretcheck.ts')
      return yield* (action === 'check' ? checkSecrets : showKeys)(target, context)
    }
    const { settled } = await import('../lib/reseal.ts')
    const steady = yield* settled(target, context)
    if (action === 'edit') return yield* (await import('../lib/secretedit.ts')).editSecrets(steady, context)
    return yield* (await import('../lib/lifecycle.ts')).run('rotate', steady, {}, context)
  },
)
