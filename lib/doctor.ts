// doctor: is all that the targets need in order? It looks, and changes nothing.
import { dirname, join } from 'node:path'
import type { Context, Rows } from './contract.ts'
import { type Found, toFinding } from './doctor/finding.ts'
import { house } from './doctor/house.ts'
import { targetFindings } from './doctor/target.ts'
import { engineNames, traitsOf } from './engine.ts'
import { Failure, statusOf, worst } from './failure.ts'
import { cacheDir, configDir, stateDir, targetsDir } from './paths.ts'
import { preamble } from './preamble.ts'
import type { CommandLine } from './rows.ts'
import { settingsOf } from './settings.ts'
import { quote } from './shell.ts'
import { loadTarget, targetNames } from './target.ts'

/**
 * The house, where no target is named, and the targets; `effective`: each with its settings in force first. Returns 0, or the worst status
 * of what is blocked.
 */
export async function* doctor(names: readonly string[], effective: boolean, context: Context): AsyncGenerator<Rows, number> {
  if (context.mode === 'explain') {
    yield* explained(names, effective, context)
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
    if (effective) yield* settings(name, context)
    yield* noted(name, targetFindings(name, context))
  }
  return worst(statuses)
}

/** Of a target that does not load the findings say why. */
async function* settings(name: string, context: Context): AsyncGenerator<Rows> {
  try {
    yield await settingsOf(await loadTarget(name), { keys: [], secrets: false }, { ...context, log: context.detail })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
  }
}

async function* explained(names: readonly string[], effective: boolean, context: Context): AsyncGenerator<Rows> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  if (names.length === 0) {
    const versions = await Promise.all(engineNames.map(async (name) => (await traitsOf(name)).versionByHand))
    yield line(`node --version; ${versions.join('; ')}; command -v gpg; command -v fusermount3; command -v ps; date -u`)
    yield line(
      `ls -ld ${quote(configDir())} ${quote(targetsDir())}; df -P ${quote(dirname(stateDir('x')))} ${quote(dirname(cacheDir('x')))}`,
    )
  }
  for (const name of names.length > 0 ? names : await targetNames()) {
    const target = await loadTarget(name)
    if (effective) yield await settingsOf(target, { keys: [], secrets: false }, context)
    yield line(`ls -ld ${quote(target.dir)}; ls -l ${quote(join(target.dir, 'target.env'))}`)
    if (target.paths.length > 0 && !target.env.SOURCE_HOST) yield line(`ls -ld ${target.paths.map(quote).join(' ')}`)
    yield* preamble(target)
    yield line((await traitsOf(target.engine)).storeByHand(target))
  }
}
