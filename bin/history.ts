// history: the runs of a target
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'list the runs of a target, the newest first',
    operands: 'target',
    options: {
      last: { value: 'N', as: 'count', help: 'the newest N only' },
      verb: { value: 'VERB', help: 'runs of this verb only' },
      failed: { help: 'runs that did not do all that was asked' },
    },
    columns: { run: ['run', 'verb', 'state', 'status', 'start', 'seconds', 'message'] },
  },
  async function* ({ options: { last, verb, failed: onlyFailed }, operands: [target = ''], context }) {
    const { failed, knownState, runsOf } = await import('../lib/runs.ts')
    const { quote } = await import('../lib/shell.ts')
    const state = await knownState(target)
    if (context.mode === 'explain') {
      yield { kind: 'command', command: `tail -n ${last ?? 20} ${quote(`${state}/runs.ndjson`)}` }
      return 0
    }
    let left = last ?? Number.POSITIVE_INFINITY
    if (left === 0) return 0
    const torn = (line: string) => context.log(`a torn line in '${state}/runs.ndjson' is left out: ${line.slice(0, 60)}`)
    for await (const run of runsOf(target, torn)) {
      if ((verb !== undefined && run.verb !== verb) || (onlyFailed && !failed(run))) continue
      yield run
      if (--left === 0) break
    }
    return 0
  },
)
