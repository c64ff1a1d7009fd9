// list: the snapshots of targets
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'list the snapshots of targets, the newest first',
    operands: '[target ...]',
    options: {
      latest: { value: 'N', as: 'count', help: 'the newest N only' },
      stream: { value: 'NAME', help: 'those of this stream only' },
      all: { short: 'a', help: "whatever the store holds, not only the target's own" },
      removed: { help: 'what prune and forget have removed, and why (rsync)' },
    },
    columns: {
      snapshot: ['id', 'time', 'target', 'host', 'size', 'paths', 'tags'],
      removed: ['id', 'time', 'action', 'reason', 'by', 'path'],
    },
    opens: true,
  },
  async function* ({ options: { latest, stream, all, removed }, operands, context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { several } = await import('../lib/several.ts')
    const { run } = await import('../lib/lifecycle.ts')
    if (latest === 0) throw new Failure('misuse', "option '--latest' takes 1 or more")
    if (removed && (all || stream !== undefined)) throw new Failure('misuse', '--removed goes without --all and --stream')
    const wanted = { all, removed, ...(latest !== undefined && { latest }), ...(stream !== undefined && { stream }) }
    return yield* several(operands, context, (target) => run('list', target, wanted, context))
  },
)
