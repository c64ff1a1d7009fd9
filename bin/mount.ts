// mount: a target's snapshots as a folder
import { resolve } from 'node:path'
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: "show a target's snapshots as files in a folder, until a signal ends it",
    operands: 'target [dir]',
    options: {},
    columns: { mounted: ['at', 'target'] },
    finishes: true,
    opens: true,
  },
  async function* ({ operands: [name = '', dir], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { run } = await import('../lib/lifecycle.ts')
    return yield* run('mount', await loadTarget(name), dir === undefined ? {} : { at: resolve(dir) }, context)
  },
)
