// hold: keeps single snapshots for ever
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'keep single snapshots for ever, whatever the keep rules say',
    operands: 'target snapshot [...]',
    options: { release: { help: 'leave them to the keep rules again' } },
    columns: { marked: ['id', 'action', 'target', 'original'] },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options: { release }, operands: [name = '', ...ids], context }) {
    const { run } = await import('../lib/lifecycle.ts')
    const { loadTarget } = await import('../lib/target.ts')
    return yield* run('hold', await loadTarget(name), { ids, release }, context)
  },
)
