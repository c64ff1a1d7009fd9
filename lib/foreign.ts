// A verb that kedge does not have: kedge-VERB of somebody else's in PATH, as git does.
import { accessSync, constants, statSync } from 'node:fs'
import { join } from 'node:path'
import { foreground } from './child.ts'
import { callerVar } from './env.ts'
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

/** The executable that PATH gives for a name. */
export function findInPath(name: string): string | undefined {
  return (callerVar('PATH') ?? '')
    .split(':')
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, name))
    .find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}
