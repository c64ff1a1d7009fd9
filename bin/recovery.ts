// recovery: the sheet that brings a target's files back without kedge
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'print the recovery sheet: how to restore a target on a machine without kedge',
    operands: 'target',
    options: {
      'with-secret': { help: 'the password and all other secrets stand on the sheet' },
      to: { value: 'FILE', help: 'write it to this file, which only its owner may read' },
      recipient: { value: 'KEY', help: 'encrypt it to this gpg key' },
      noted: { help: 'note that the sheet and what opens the store are kept on another machine; doctor is content then' },
    },
    columns: { file: ['path', 'action', 'target'] },
    changes: true,
    opens: true,
  },
  async function* ({ options, operands: [name = ''], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { giveSheet, giveNote } = await import('../lib/sheet.ts')
    const { sheetOf } = await import('../lib/engine.ts')
    const { Failure } = await import('../lib/failure.ts')
    const { 'with-secret': withSecret, to, recipient, noted } = options
    if (noted && (withSecret || to !== undefined || recipient !== undefined))
      throw new Failure('misuse', '--noted goes with no other option')
    const target = await loadTarget(name)
    if (noted) yield* giveNote(target, context)
    else yield* giveSheet(target, { withSecret, to, recipient, page: (secrets) => sheetOf(target, secrets) }, context)
    return 0
  },
)
