// check: is the repository whole?
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'check that the stores of targets are whole',
    operands: 'target [target ...]',
    options: {
      'read-data': { help: 'read all of the data too' },
      within: { value: 'DURATION', as: 'seconds', help: 'read the slices that are due, so that all data is read every so often (30d)' },
    },
    columns: { checked: ['target', 'structure', 'read', 'slices', 'verified', 'oldestVerified'] },
    finishes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options, operands, context }) {
    const { several } = await import('../lib/several.ts')
    const { run } = await import('../lib/lifecycle.ts')
    const wanted = { readData: options['read-data'], ...(options.within !== undefined && { within: options.within }) }
    return yield* several(operands, context, (target) => run('check', target, wanted, context))
  },
)
