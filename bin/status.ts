// status: does every target stand as it should?
import { command } from '../lib/cli.ts'
import type { StatusRow } from '../lib/rows.ts'

export default command(
  {
    summary: 'show how targets stand: last good and failed run, what is due, what is late',
    operands: '[target ...]',
    options: {
      all: { short: 'a', help: 'a line for each verb, not only the worst of a target' },
      'max-age': { value: 'DURATION', as: 'seconds', help: 'the last good backup may be so old, whatever the targets say' },
      nagios: { help: 'print one line with performance data, and exit 0 to 3, as monitoring plugins do' },
    },
    columns: { status: ['target', 'state', 'verb', 'good', 'failed', 'due', 'age', 'message'] },
  },
  async function* ({ options, operands, context }) {
    const { Failure, statusOf, worst } = await import('../lib/failure.ts')
    const { isBad, nagios, standingOf, worstOf } = await import('../lib/standing.ts')
    const { explained } = await import('../lib/exporter.ts')
    const { loadTarget, targetNames } = await import('../lib/target.ts')
    if (context.mode === 'explain') return yield* explained(operands)
    const now = new Date()
    const shown: StatusRow[] = []
    const unknown: string[] = []
    const statuses: number[] = []
    try {
      const names = operands.length > 0 ? operands : await targetNames()
      if (names.length === 0) throw new Failure('misuse', 'there is no target', { hint: 'kedge new NAME makes one' })
      for (const name of names) {
        try {
          const target = await loadTarget(name)
          const standing = await standingOf(target, { maxAge: options['max-age'], now })
          const rows = target.env.NOTIFY ? await (await import('../lib/notify/memory.ts')).withFailing(standing, target) : standing
          const worstRow = worstOf(rows)
          if (rows.some(isBad)) statuses.push(statusOf.stale)
          if (worstRow) shown.push(worstRow)
          if (!options.nagios) yield options.all ? rows : worstRow ? [worstRow] : []
        } catch (error) {
          if (!(error instanceof Failure)) throw error
          if (options.nagios) unknown.push(error.message)
          else statuses.push(context.report(error, name))
        }
      }
    } catch (error) {
      if (!(error instanceof Failure) || !options.nagios) throw error
      unknown.push(error.message)
    }
    if (!options.nagios) return worst(statuses)
    const answer = nagios(shown, unknown)
    yield { kind: 'text', text: answer.text }
    return answer.status
  },
)
