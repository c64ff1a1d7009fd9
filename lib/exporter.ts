// The metrics of many targets, without opening a store: few calls a target, since an agent may ask every 15 seconds.
import { constants, lstatSync, readdirSync, statSync } from 'node:fs'
import { lstat, open, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Context, Rows } from './contract.ts'
import { type Class, Failure } from './failure.ts'
import { lagText, metricsText, type Samples, samplesOf, validity } from './metrics.ts'
import { overviewOf } from './overview.ts'
import { stateDir, targetsDir } from './paths.ts'
import { prepared } from './prepared.ts'
import type { CommandLine } from './rows.ts'
import { allRunning, type Running } from './running.ts'
import { shown } from './shell.ts'
import { loadTarget, targetNames } from './target.ts'

/** The Prometheus text of these targets; of all without names. A name without a target is Failure 'misuse'. */
export async function exported(names: readonly string[]): Promise<string> {
  const targets = await chosen(names)
  // The environment is asked once: for a thousand targets that alone would be a tenth of the work.
  const states = dirname(stateDir('any'))
  const folders = targetsDir()
  const running = allRunning(states)
  // Locks and processes are looked at only where something runs: what that needs is not even loaded otherwise.
  const glance = running.size > 0 ? (await import('./live.ts')).glance : undefined
  const house = Math.max(
    changedAt(`${folders}/../defaults.env`, 0),
    changedAt(`${folders}/../exclude`, 0),
    changedIn(`${folders}/../hooks`),
  )
  const now = Date.now()
  const all: { valid: string; lag: string; samples: Samples }[] = []
  for (const target of targets) {
    const state = `${states}/${target}`
    const places = running.get(target)
    const { samples, at, lags } = (places ? undefined : prepared(state, target)) ?? sampled(target, state, places, glance)
    // What a run has read since it was changed is well; to load a thousand targets would take a second.
    const folder = `${folders}/${target}`
    const files = Math.max(changedAt(`${folder}/target.env`), changedAt(`${folder}/paths`, 0), changedAt(`${folder}/exclude`, 0))
    const changed = Math.max(house, files, changedIn(`${folder}/hooks`), changedIn(`${folder}/streams`))
    const valid = at > changed || (await loads(target))
    all.push({ valid: validity(target, valid), lag: lagText(target, lags, now), samples })
  }
  return metricsText(all)
}

type Glance = typeof import('./live.ts').glance

/** In milliseconds; for ever young where the file cannot be looked at: then loading tells. */
function changedAt(file: string, absent = Number.POSITIVE_INFINITY, at: 'mtimeMs' | 'ctimeMs' = 'mtimeMs'): number {
  try {
    return statSync(file, { throwIfNoEntry: false })?.[at] ?? absent
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return Number.POSITIVE_INFINITY
  }
}

/** The same of a folder of executables, and of what lies in it, whose modes and owners count; 0 where there is none. */
function changedIn(folder: string): number {
  try {
    // A link that leads nowhere has an entry, and is a fault.
    if (!lstatSync(folder, { throwIfNoEntry: false })) return 0
    const files = [folder, ...readdirSync(folder).map((name) => `${folder}/${name}`)]
    return Math.max(...files.map((file) => changedAt(file, Number.POSITIVE_INFINITY, 'ctimeMs')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return Number.POSITIVE_INFINITY
  }
}

async function loads(target: string): Promise<boolean> {
  try {
    await loadTarget(target)
    return true
  } catch (error) {
    if (error instanceof Failure) return false
    throw error
  }
}

/** The samples of a target that has none prepared, or in which something runs. */
function sampled(target: string, state: string, places: ReadonlyMap<string, Running> = new Map(), glance?: Glance) {
  const overview = overviewOf(state, places)
  const live = glance ? [...places].map(([place, each]) => glance(target, place, each)) : []
  const starts = Object.values(overview.last).map(({ last }) => Date.parse(last.start))
  return { samples: samplesOf({ target, overview, live }, new Date()), at: Math.max(0, ...starts), lags: overview.lags }
}

async function chosen(names: readonly string[]): Promise<readonly string[]> {
  const all = await targetNames()
  const unknown = names.find((name) => !all.includes(name))
  if (unknown !== undefined) throw new Failure('misuse', `no target '${unknown}'`, { hint: 'kedge targets lists them' })
  return names.length > 0 ? names : all
}

/** Measures the stores. One that cannot be measured is reported, and hides neither what is known of it nor the others. */
export async function drained(rows: AsyncGenerator<Rows, number>, context: Context): Promise<number> {
  try {
    for (;;) {
      const { done, value } = await rows.next()
      if (done) return value
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return context.report(error)
  }
}

const classes: Readonly<Record<string, Class>> = {
  ENOSPC: 'space',
  EACCES: 'permission',
  EPERM: 'permission',
  EROFS: 'permission',
  ENOENT: 'misuse',
  ENOTDIR: 'misuse',
  EISDIR: 'misuse',
}

/**
 * Replaces a file of metrics at once, for everybody to read; writes into a device or a fifo, which stays. Failure 'misuse' for a file
 * that holds something else.
 */
export async function publish(file: string, text: string): Promise<void> {
  try {
    const found = await stat(file).catch(unlessAbsent)
    const entry = found ?? (await lstat(file).catch(unlessAbsent))
    if (entry && !entry.isFile()) return await writeInto(file, found ? constants.O_WRONLY : 'w', text)
    if (!found) return await replace(file, text)
    if (!(await isOurs(file)))
      throw new Failure('misuse', `cannot write metrics to '${file}': it exists, and holds something else`, { hint: 'give another name' })
    await replace(await realpath(file), text)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const kind = code === undefined ? undefined : (classes[code] ?? 'tool')
    if (!kind) throw error
    throw new Failure(kind, `cannot write metrics to '${file}': ${message}`, {
      ...(code === 'ENOENT' && { hint: `is there a folder '${dirname(file)}'?` }),
      cause: error,
    })
  }
}

const unlessAbsent = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT') throw error
}

/** A device is not created where it is not (O_CREAT): Linux refuses that for a fifo of another user in a folder like /tmp. */
async function writeInto(file: string, flags: number | 'w', text: string): Promise<void> {
  const handle = await open(file, flags, 0o644)
  try {
    await handle.writeFile(text)
  } finally {
    await handle.close()
  }
}

/** An empty file is anybody's. */
async function isOurs(file: string): Promise<boolean> {
  const handle = await open(file)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(heading.length), 0, heading.length, 0)
    return bytesRead === 0 || buffer.toString('latin1', 0, bytesRead) === heading
  } finally {
    await handle.close()
  }
}

const heading = '# HELP kedge_'

/** What is written beside the file has another suffix: the collector takes *.prom only. */
async function replace(file: string, text: string): Promise<void> {
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
    throw error
  }
}

/** What shows the same by hand: the files that the metrics come from; a target that never ran has none. */
export async function* explained(names: readonly string[]): AsyncGenerator<CommandLine> {
  for (const target of await chosen(names)) {
    const files = ['last.json', 'sizes.json', 'copies.json'].map((file) => join(stateDir(target), file))
    yield { kind: 'command', command: `${shown(['cat', ...files])} 2>/dev/null || :` }
  }
}
