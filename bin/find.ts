// find: where a name occurs in the snapshots of a target
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'find files by name or pattern in the snapshots of a target',
    operands: 'target pattern ...',
    options: {
      'ignore-case': { short: 'i', help: 'do not tell upper from lower case' },
      snapshot: { value: 'ID', help: 'in this snapshot only' },
    },
    columns: { match: ['snapshot', 'time', 'path', 'type', 'size', 'mtime'] },
    opens: true,
  },
  async function* ({ options, operands: [name = '', ...patterns], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { run } = await import('../lib/lifecycle.ts')
    const more = options.snapshot === undefined ? {} : { snapshot: options.snapshot }
    return yield* run('find', await loadTarget(name), { patterns, ignoreCase: options['ignore-case'], ...more }, context)
  },
)
