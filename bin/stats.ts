// stats: how large, how fast it grows, and the metrics
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'show sizes, growth and forecast of targets, or their metrics',
    operands: '[target ...]',
    options: {
      prometheus: { value: 'FILE', bare: '', help: 'print metrics as Prometheus text, or replace a file for the textfile collector' },
      refresh: { help: 'with --prometheus: measure the stores first' },
    },
    columns: {
      sizes: ['target', 'snapshots', 'restore', 'files', 'raw', 'dedup', 'compression', 'perDay', 'free', 'fullIn'],
    },
    opens: true,
  },
  async function* ({ options: { prometheus, refresh }, operands, context }) {
    const { Failure } = await import('../lib/failure.ts')
    if (refresh && prometheus === undefined) throw new Failure('misuse', '--refresh goes with --prometheus')
    let status = 0
    if (prometheus === undefined || refresh) {
      const { several } = await import('../lib/several.ts')
      const { run } = await import('../lib/lifecycle.ts')
      const measured = several(operands, context, (target) => run('stats', target, {}, context))
      if (prometheus === undefined || context.mode === 'explain') return yield* measured
      const { drained } = await import('../lib/exporter.ts')
      status = await drained(measured, context)
    }
    const { explained, exported, publish } = await import('../lib/exporter.ts')
    if (context.mode === 'explain') return yield* explained(operands)
    const text = await exported(operands)
    if (prometheus) await publish(prometheus, text)
    else if (text !== '') yield { kind: 'text', text: text.trimEnd() }
    return status
  },
)
