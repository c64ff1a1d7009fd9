// notify: prove the channels, send the digest, tell of a run that could not tell of itself
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'test the channels by which runs are told of, send the digest, or tell of a run that left no record (missed VERB TARGET)',
    operands: 'test|digest|missed [target ...]',
    options: { on: { value: 'CHANNEL', help: 'test: only this one: mail, webhook, ping, command' } },
    columns: { told: ['target', 'channel', 'to', 'state', 'message'] },
    changes: true,
    opens: true,
  },
  async function* ({ options: { on }, operands: [action = '', ...names], context }) {
    const { Failure } = await import('../lib/failure.ts')
    if (on !== undefined && action !== 'test') throw new Failure('misuse', `option '--on' belongs to 'kedge notify test'`)
    switch (action) {
      case 'test': {
        if (names.length === 0) throw new Failure('misuse', 'operand missing: target', { hint: 'kedge notify test TARGET' })
        const { trial } = await import('../lib/notify/trial.ts')
        const { several } = await import('../lib/several.ts')
        return yield* several(names, context, (target) => trial(target, on, context))
      }
      case 'digest': {
        const { digest } = await import('../lib/notify/digest.ts')
        return yield* digest(names, context)
      }
      case 'missed': {
        const { missed } = await import('../lib/notify/missed.ts')
        return yield* missed(names, context)
      }
      default:
        throw new Failure('misuse', `no action '${action}'`, { hint: 'test, digest or missed' })
    }
  },
)
