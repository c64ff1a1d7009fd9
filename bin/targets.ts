// targets: lists the targets
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'list the targets',
    operands: '',
    options: { group: { value: 'NAME', help: 'those whose GROUP has this name only' } },
    columns: { target: ['target', 'engine', 'store', 'groups'] },
  },
  async function* ({ options: { group }, context }) {
    const { listTargets } = await import('../lib/settings.ts')
    const { traitsOf } = await import('../lib/engine.ts')
    return yield* listTargets(group, async (target) => (await traitsOf(target.engine)).storeName(target), context)
  },
)
