// unlock: shows the locks of a target and removes the dead ones
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: "show a target's locks, kedge's and its store's, and remove those whose process is provably dead",
    operands: 'target',
    options: { force: { help: 'remove the others too' } },
    columns: { lock: ['id', 'of', 'host', 'pid', 'age', 'alive', 'exclusive', 'action'] },
    changes: true,
    opens: true,
  },
  async function* ({ options: { force }, operands: [name = ''], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { unlock } = await import('../lib/unlock.ts')
    return yield* unlock(await loadTarget(name), force, context)
  },
)
