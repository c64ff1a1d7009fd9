// accept: takes suspect snapshots for good, so that prune goes on
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'take suspect snapshots for good, so that prune goes on; without one, list them',
    operands: 'target [snapshot ...]',
    options: {},
    columns: { marked: ['id', 'action', 'target', 'reason'] },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ operands: [name = '', ...ids], context }) {
    const { accept, suspects } = await import('../lib/accept.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const target = await loadTarget(name)
    if (context.mode === 'explain') {
      yield { kind: 'command', command: "# suspect snapshots are a note of kedge's own: no tool is started" }
      return 0
    }
    const { traitsOf } = await import('../lib/engine.ts')
    const traits = await traitsOf(target.engine)
    const told = async (warn: (message: string) => void) => (await traits.suspects?.(target, { warn, forced: context.forced })) ?? {}
    if (ids.length === 0) {
      yield await suspects(target, await told((message) => context.log(`warning: ${message}`)))
      return 0
    }
    const { perform } = await import('../lib/lifecycle.ts')
    return yield* perform('accept', target, context, async function* (inner) {
      yield* accept(target, ids, await told(inner.warn), inner)
    })
  },
)
