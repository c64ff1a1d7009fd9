// The facts that guards judge, gathered for a verb on a target. backup runs it, and doctor shows what it says.
import type { Target } from './contract.ts'
import type { Facts } from './guard.ts'
import { type Last, readLast } from './ledger.ts'
import { stateDir } from './paths.ts'
import { exists, presentPaths } from './source/paths.ts'

export async function gather(verb: string, target: Target, options: { names?: readonly string[] | undefined } = {}): Promise<Facts> {
  const saving = verb === 'backup'
  const last = await readLast(stateDir(target.name))
  const starts = Object.values(last).map(({ last }) => Date.parse(last.start))
  const canary = target.env.CANARY
  // What lies on another host is looked at by the engine.
  const here = !target.env.SOURCE_HOST
  return {
    target: target.name,
    verb,
    pinned: target.env.STORE_ID || undefined,
    canary: saving && canary && here ? { path: canary, there: await exists(canary) } : undefined,
    paths: saving ? await presence(options.names ?? target.paths, here) : undefined,
    others: options.names ? 0 : target.streams.length,
    damaged: damageIn(last),
    now: new Date(),
    lastRun: starts.length > 0 ? new Date(Math.max(...starts)) : undefined,
  }
}

/** Of another host's paths only that there are some. */
const presence = async (paths: readonly string[], here: boolean) => (here || paths.length === 0 ? await presentPaths(paths) : undefined)

/** What the last check or drill that found damage said, until one is good. */
function damageIn(last: Last): Facts['damaged'] {
  for (const verb of ['check', 'drill'] as const) {
    const found = last[verb]?.damaged
    if (found) return { verb, message: found.message ?? `the last ${verb} found bad data` }
  }
  return undefined
}
