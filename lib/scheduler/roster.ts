// The targets as a scheduler knows them: each is loaded again when its files changed, and one that does not load stops no other.
import { readdirSync, statSync } from 'node:fs'
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
  /** All targets that are there, and those of them that do not load. */
  readonly names: readonly string[]
  readonly broken: readonly string[]
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
      const house = houseMark()
      for (const name of names) {
        const mark = `${house} ${markOf(name)}`
        if (!force && known.get(name)?.mark === mark) continue
        known.set(name, { mark, target: await load(name) })
        changed = true
      }
      return changed
    },
    get names() {
      return [...known.keys()]
    },
    get broken() {
      return [...known].flatMap(([name, { target }]) => (target ? [] : [name]))
    },
    duties: () => [...targets().flatMap(dutiesOf), ...digestDuties(targets())],
  }
}

/** Changes when one of the files does that loadTarget reads or judges, by the inode's time, mode and owner: chmod and chown count. */
function markOf(name: string): string {
  const dir = join(targetsDir(), name)
  const own = ['', 'target.env', 'paths', 'exclude'].map((file) => stateOf(join(dir, file)))
  return [...own, ...statesIn(join(dir, 'streams')), ...statesIn(join(dir, 'hooks'))].join(' ')
}

const houseMark = (): string =>
  [...['defaults.env', 'exclude'].map((file) => stateOf(join(configDir(), file))), ...statesIn(join(configDir(), 'hooks'))].join(' ')

/** The folder and what lies in it. */
function statesIn(folder: string): string[] {
  const own = stateOf(folder)
  const names =
    own === absent
      ? []
      : orReason<readonly string[]>(
          () => readdirSync(folder),
          () => [],
        )
  return [own, ...names.map((name) => `${name}:${stateOf(join(folder, name))}`)]
}

const absent = '-'

const stateOf = (file: string): string =>
  orReason(
    () => {
      const found = statSync(file, { throwIfNoEntry: false })
      return found ? [found.ctimeMs, found.size, found.ino, found.mode, found.uid].join('/') : absent
    },
    (code) => code,
  )

/** `otherwise`: what stands for a file that the system refuses to show. */
function orReason<T>(read: () => T, otherwise: (code: string) => T): T {
  try {
    return read()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    return otherwise(code)
  }
}
