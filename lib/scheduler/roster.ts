// The targets as a scheduler knows them: each is loaded again when its files changed, and one that does not load stops no other.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { expected, Failure } from '../failure.ts'
import { configDir, targetsDir } from '../paths.ts'
import { loadTarget, targetNames } from '../target.ts'
import type { Complaints } from './complaints.ts'
import { type Duty, digestDuties, dutiesOf } from './duty.ts'

export type Roster = {
  /** Looks at the files; true where something changed. `force`: loads every target again. */
  look: (force?: boolean) => Promise<boolean>
  /** All targets that are there, and how many of them load. */
  readonly names: readonly string[]
  readonly loaded: number
  duties: () => Duty[]
}

export function createRoster(complaints: Complaints, onMended: (name: string) => void = () => undefined): Roster {
  const known = new Map<string, { mark: string; target: Target | undefined }>()
  const targets = () => [...known.values()].flatMap(({ target }) => target ?? [])

  async function load(name: string): Promise<Target | undefined> {
    try {
      const target = await loadTarget(name)
      if (complaints.settle(name)) onMended(name)
      return target
    } catch (error) {
      complaints.make(name, error, name) // whatever it is, the other targets go on
      return undefined
    }
  }

  return {
    async look(force = false) {
      let names: string[]
      try {
        names = await targetNames()
      } catch (thrown) {
        const error = expected(thrown)
        if (!(error instanceof Failure)) throw error
        complaints.make(targetsDir(), error)
        return false
      }
      complaints.settle(targetsDir())
      let changed = false
      for (const name of known.keys()) {
        if (names.includes(name)) continue
        known.delete(name)
        complaints.settle(name)
        changed = true
      }
      for (const name of names) {
        const mark = markOf(name)
        if (!force && known.get(name)?.mark === mark) continue
        known.set(name, { mark, target: await load(name) })
        changed = true
      }
      return changed
    },
    get names() {
      return [...known.keys()]
    },
    get loaded() {
      return targets().length
    },
    duties: () => [...targets().flatMap(dutiesOf), ...digestDuties(targets())],
  }
}

/** Changes when one of the files does that loadTarget reads; by the time of the inode's change, so that chmod and chown count. */
function markOf(name: string): string {
  const own = ['', 'target.env', 'paths', 'streams', 'hooks'].map((file) => join(targetsDir(), name, file))
  return [join(configDir(), 'defaults.env'), join(configDir(), 'hooks'), ...own].map(stateOf).join(' ')
}

function stateOf(file: string): string {
  try {
    const { ctimeMs, size, ino } = statSync(file)
    return `${ctimeMs}/${size}/${ino}`
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    return code
  }
}
