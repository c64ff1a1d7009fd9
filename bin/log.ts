// log: what a run said
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: "print the log of a target's run, of the last one without an id",
    operands: 'target [run]',
    options: {},
    columns: {},
  },
  async function* ({ operands: [target = '', name], context }) {
    const { createReadStream } = await import('node:fs')
    const { batches } = await import('../lib/child.ts')
    const { Failure } = await import('../lib/failure.ts')
    const { logFile } = await import('../lib/ledger.ts')
    const { knownState, pickRun } = await import('../lib/runs.ts')
    const { quote } = await import('../lib/shell.ts')
    const state = await knownState(target)
    const { run } = await pickRun(target, name)
    const file = logFile(state, run)
    if (context.mode === 'explain') {
      yield { kind: 'command', command: `cat ${quote(file)}` }
      return 0
    }
    try {
      for await (const lines of batches(createReadStream(file, { signal: context.signal })))
        yield lines.map((text) => ({ kind: 'text', text }) as const)
    } catch (error) {
      context.signal.throwIfAborted()
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new Failure('empty', `run '${run}' has no log: '${file}' is gone`, {
        hint: 'LEDGER_KEEP says how long logs are kept',
        cause: error,
      })
    }
    return 0
  },
)
