// copy: takes snapshots to second stores
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: "copy what is missing of a target's snapshots to the stores that its COPY_TO names",
    operands: 'target [target ...]',
    options: { to: { value: 'TARGET', many: true, help: 'only to the store of this target, one of COPY_TO' } },
    columns: { copied: ['target', 'to', 'copied', 'present'] },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options: { to }, operands, context }) {
    const { several } = await import('../lib/several.ts')
    const { run } = await import('../lib/lifecycle.ts')
    const { copiesOf } = await import('../lib/copying.ts')
    return yield* several(operands, context, async function* (target) {
      return yield* run('copy', target, await copiesOf(target, to), context)
    })
  },
)
