// doctor: is all that the targets need in order? It looks, and changes nothing.
import { dirname, join } from 'node:path'
import type { Context, Rows } from './contract.ts'
import { type Found, toFinding } from './doctor/finding.ts'
import { house } from './doctor/house.ts'
import { targetFindings } from './doctor/target.ts'
import { statusOf, worst } from './failure.ts'
import { cacheDir, configDir, stateDir, targetsDir } from './paths.ts'
import { preamble } from './preamble.ts'
import type { CommandLine } from './rows.ts'
import { quote } from './shell.ts'
import { loadTarget, targetNames } from './target.ts'

/** The house, where no target is named, and the targets. Returns 0, or the worst status of what is blocked. */
export async function* doctor(names: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  if (context.mode === 'explain') {
    yield* explained(names)
    return 0
  }
  const statuses: number[] = []
  const noted = async function* (target: string, findings: AsyncIterable<Found>): AsyncGenerator<Rows> {
    for await (const found of findings) {
      if (found.level === 'blocked') statuses.push(statusOf[found.class ?? 'tool'])
      yield toFinding(target, found)
    }
  }
  // A target of no name is the house.
  if (names.length === 0) yield* noted('-', house())
  for (const name of names.length > 0 ? names : await targetNames()) {
    context.signal.throwIfAborted()
    yield* noted(name, targetFindings(name, context))
  }
  return worst(statuses)
}

async function* explained(names: readonly string[]): AsyncGenerator<CommandLine> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  if (names.length === 0) {
    yield line('node --version; restic version; command -v gpg; command -v fusermount3; command -v ps; date -u')
    yield line(
      `ls -ld ${quote(configDir())} ${quote(targetsDir())}; df -P ${quote(dirname(stateDir('x')))} ${quote(dirname(cacheDir('x')))}`,
    )
  }
  for (const name of names.length > 0 ? names : await targetNames()) {
    const target = await loadTarget(name)
    yield line(`ls -ld ${quote(target.dir)}; ls -l ${quote(join(target.dir, 'target.env'))}`)
    if (target.paths.length > 0) yield line(`ls -ld ${target.paths.map(quote).join(' ')}`)
    yield* preamble(target)
    yield line('restic --no-cache cat config --no-lock; restic --no-cache list locks --no-lock')
  }
}
