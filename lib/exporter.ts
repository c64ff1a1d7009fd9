// The metrics of many targets, without opening a store: few calls a target, since an agent may ask every 15 seconds.
import { readFileSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { CommandLine } from './contract.ts'
import { parseEnv } from './env.ts'
import { type Class, Failure } from './failure.ts'
import { type Facts, metricsText } from './metrics.ts'
import { overviewOf } from './overview.ts'
import { stateDir } from './paths.ts'
import { identity } from './process.ts'
import { shown } from './shell.ts'
import { targetDir, targetNames } from './target.ts'

/** The Prometheus text of these targets; of all without names. A name without a target is Failure 'misuse'. */
export async function exported(names: readonly string[]): Promise<string> {
  const here = identity()
  const facts = (await chosen(names)).map((target): Facts => ({ target, valid: isValid(target), overview: overviewOf(target, here) }))
  return metricsText(facts, new Date())
}

async function chosen(names: readonly string[]): Promise<readonly string[]> {
  const all = await targetNames()
  const unknown = names.find((name) => !all.includes(name))
  if (unknown !== undefined) throw new Failure('misuse', `no target '${unknown}'`, { hint: 'kedge targets lists them' })
  return names.length > 0 ? names : all
}

// The grammar of target.env alone: to validate each setting of a thousand targets costs a second, and each run does it.
function isValid(target: string): boolean {
  try {
    const file = join(targetDir(target), 'target.env')
    return parseEnv(readFileSync(file, 'utf8'), file).faults.length === 0
  } catch (error) {
    if (!(error instanceof Failure) && (error as NodeJS.ErrnoException).code === undefined) throw error
    return false
  }
}

const classes: Readonly<Record<string, Class>> = { ENOSPC: 'space', EACCES: 'permission', EPERM: 'permission', EROFS: 'permission', ENOENT: 'misuse' }

/** Replaces the text at once, for everybody to read. What is written beside it has another suffix: the collector takes *.prom only. */
export async function publish(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.new`
  try {
    const handle = await open(temporary, 'w', 0o644)
    try {
      await handle.writeFile(text)
      await handle.chmod(0o644)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, file)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined) // the first error tells
    const { code, message } = error as NodeJS.ErrnoException
    const kind = code === undefined ? undefined : (classes[code] ?? 'tool')
    if (!kind) throw error
    throw new Failure(kind, `cannot write metrics to '${file}': ${message}`, {
      ...(code === 'ENOENT' && { hint: `is there a folder '${dirname(file)}'?` }),
      cause: error,
    })
  }
}

/** What shows the same by hand: the files that the metrics come from. */
export async function* explained(names: readonly string[]): AsyncGenerator<CommandLine> {
  for (const target of await chosen(names)) {
    const files = ['last.json', 'sizes.json'].map((file) => join(stateDir(target), file))
    yield { kind: 'command', command: shown(['cat', ...files]) }
  }
}
