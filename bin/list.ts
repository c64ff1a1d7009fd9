// list: the snapshots of targets
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'list the snapshots of targets, the newest first',
    operands: '[target ...]',
    options: {
      latest: { value: 'N', as: 'count', help: 'the newest N only' },
      stream: { value: 'NAME', help: 'those of this stream only' },
      all: { short: 'a', help: "whatever the repository holds, not only the target's own" },
    },
    columns: { snapshot: ['id', 'time', 'target', 'host', 'size', 'paths', 'tags'] },
    opens: true,
  },
  async function* ({ options: { latest, stream, all }, operands, context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { several } = await import('../lib/several.ts')
    const { run } = await import('../lib/lifecycle.ts')
    if (latest === 0) throw new Failure('misuse', "option '--latest' takes 1 or more")
    const wanted = { all, ...(latest !== undefined && { latest }), ...(stream !== undefined && { stream }) }
    return yield* several(operands, context, (target) => run('list', target, wanted, context))
  },
)
