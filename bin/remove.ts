// remove: takes a target away, never its data
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'take a target away, packed so that it can be put back; never its data',
    operands: 'target',
    options: {
      yes: { help: 'do not ask' },
      wait: { value: 'DURATION', as: 'seconds', help: 'wait so long for a run of the target to end' },
    },
    columns: { file: ['path', 'action', 'target'] },
    changes: true,
  },
  async function* ({ options: { yes, wait }, operands: [name = ''], context }) {
    const { removeTarget } = await import('../lib/remove.ts')
    yield* removeTarget(name, yes, { ...context, wait: wait ?? 0 })
    return 0
  },
)
