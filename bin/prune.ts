// prune: deletes snapshots that no keep rule holds, and gives their space back
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'delete the snapshots that no keep rule holds, and give their space back',
    operands: 'target [...]',
    options: {
      apply: { value: 'DIGEST', help: 'delete exactly those of the plan with this digest, which -n printed and saved' },
      'max-delete': { value: 'N', as: 'count', help: 'delete at most N, the oldest first, in place of PRUNE_MAX_DELETE' },
      simulate: { value: 'DAYS', as: 'count', help: 'show what the schedule and the keep rules would leave on each day ahead' },
    },
    columns: {
      plan: ['id', 'action', 'time', 'group', 'reasons'],
      incomplete: ['id', 'time', 'files', 'bytes'],
      pruned: ['target', 'deleted', 'kept', 'later', 'digest', 'freed'],
      day: ['date', 'snapshots', 'deleted', 'oldest'],
    },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options: { apply, simulate, 'max-delete': maxDelete }, operands, context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { perform, run } = await import('../lib/lifecycle.ts')
    const { several } = await import('../lib/several.ts')
    if ([apply, simulate, maxDelete].filter((value) => value !== undefined).length > 1)
      throw new Failure('misuse', 'of --apply, --max-delete and --simulate only one can be given')
    if (simulate === 0) throw new Failure('misuse', "option '--simulate' takes 1 or more")
    if (apply !== undefined && operands.length !== 1) throw new Failure('misuse', '--apply needs exactly one target')
    if (simulate === undefined) {
      const options = { ...(apply !== undefined && { apply }), ...(maxDelete !== undefined && { maxDelete }) }
      return yield* several(operands, context, (target) => run('prune', target, options, context))
    }
    const { verbOf } = await import('../lib/engine.ts')
    return yield* several(operands, context, async function* (target) {
      const act = await verbOf(target.engine, 'prune')
      if ('instead' in act) throw new Failure('misuse', `the engine ${target.engine} has no prune`, { hint: act.instead })
      // Nothing is written: no lock, no record.
      return yield* perform('simulate', target, context, (inner) => act(target, { simulate }, inner))
    })
  },
)
