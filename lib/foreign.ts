// A verb that kedge does not have: kedge-VERB of somebody else's in PATH, as git does.
import { foreground } from './child.ts'
import { findInPath } from './executable.ts'
import { say } from './log.ts'
import { nearest } from './nearest.ts'

export async function runForeign(verb: string, argv: readonly string[], verbs: readonly string[]): Promise<void> {
  const program = /^[\w.-]+$/.test(verb) ? findInPath(`kedge-${verb}`) : undefined
  if (program) {
    process.exitCode = await foreground([program, ...argv])
    return
  }
  const like = nearest(verb, verbs)
  say(`kedge: unknown command '${verb}'\n  hint: ${like ? `did you mean '${like}'?` : 'kedge --help lists the commands'}`)
  process.exitCode = 2
}
