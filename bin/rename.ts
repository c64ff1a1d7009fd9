// rename: gives a target another name
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'give a target another name; its snapshots stay as they are',
    operands: 'old new',
    options: { wait: { value: 'DURATION', as: 'seconds', help: 'wait so long for a run of the target to end' } },
    columns: { file: ['path', 'action', 'target'] },
    changes: true,
  },
  async function* ({ options: { wait }, operands: [old = '', now = ''], context }) {
    const { renameTarget } = await import('../lib/rename.ts')
    yield* renameTarget(old, now, { ...context, wait: wait ?? 0 })
    return 0
  },
)
