// While a run that systemd started goes on, the machine does not go to sleep: an inhibitor lock of logind's, held until it is released.
import { start } from './child.ts'
import type { Context } from './contract.ts'
import { callerEnv, callerVar } from './env.ts'

/** Milliseconds. */
const patience = 2000

/** `why` is what `systemd-inhibit --list` shows. Gives what ends it. Where the machine has no logind the run goes on without. */
export function keepAwake(why: string, context: Pick<Context, 'detail'>): () => Promise<void> {
  if (!callerVar('INVOCATION_ID')) return async () => undefined
  const command = ['systemd-inhibit', '--what=sleep', '--mode=block', '--who=kedge', `--why=${why}`, 'cat']
  const child = start(command, { env: callerEnv(), stdin: 'pipe', stdout: 'ignore', grace: 2 })
  const refused = (reason: string) => context.detail(`nothing keeps the machine awake: ${reason}`)
  const done = child.done.then(
    ({ status, stderr }) => status !== 0 && refused(stderr.trim().split('\n').pop() || `systemd-inhibit ended with ${status}`),
    (error: Error) => refused(error.message),
  )
  return async () => {
    child.stdin?.end()
    const late = setTimeout(child.end, patience) // a bus that does not answer
    await done // what is left when kedge ends, systemd kills, and says so in its journal
    clearTimeout(late)
  }
}
