// forget: deletes single snapshots
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'delete single snapshots',
    operands: 'target snapshot [...]',
    options: {},
    columns: { marked: ['id', 'action', 'target'] },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ operands: [name = '', ...ids], context }) {
    const { run } = await import('../lib/lifecycle.ts')
    const { loadTarget } = await import('../lib/target.ts')
    return yield* run('forget', await loadTarget(name), { ids }, context)
  },
)
