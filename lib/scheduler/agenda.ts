// The duties of all targets, each with its next due time.
import type { Attempts } from './attempts.ts'
import type { Complaints } from './complaints.ts'
import { type Duty, isLost, type Timed, timed } from './duty.ts'
import type { Roster } from './roster.ts'

export type Agenda = {
  /**
   * Takes the roster's duties; `all`: times each anew, not only those without a time. `keep`: false where nothing may be written; nor is it
   * where there is no target at all, as before its file system is mounted: what was noted is wanted again.
   */
  renew: (all: boolean, keep?: boolean) => Promise<void>
  /** After the clock was set far back: counts from now. */
  mend: () => Promise<void>
  /** Whether it still is, after a look at what ran meanwhile. */
  isDue: (duty: Duty, until: number) => Promise<boolean>
  /** It is started now: until its next due time it is not due. */
  begin: (duty: Duty) => Promise<void>
  save: () => Promise<void>
  all: () => Iterable<Timed>
}

export function createAgenda(roster: Roster, attempts: Attempts, complaints: Complaints): Agenda {
  let duties = new Map<string, Timed>()

  async function time(duty: Duty): Promise<Timed | undefined> {
    try {
      const found = await timed(duty, await attempts.since(duty, Date.now()))
      duties.set(duty.key, found)
      complaints.settle(duty.key)
      return found
    } catch (error) {
      duties.delete(duty.key)
      complaints.make(duty.key, error, duty.target || duty.verb) // a state that cannot be read: the other targets go on
      return undefined
    }
  }

  /** What the targets schedule. Of one that does not load what it had: its run is due, fails, and is told of, as with other timers. */
  function wanted(): Duty[] {
    const known = roster.duties()
    if (roster.broken.length === 0) return known
    const broken = new Set(roster.broken)
    // Who asks for a digest is not known of those that do not load: it goes on where no other target asks for one.
    if (!known.some(({ target }) => target === '')) broken.add('')
    return [...known, ...attempts.remembered().filter(({ target }) => broken.has(target))]
  }

  let keys = new Set<string>()
  const save = () => attempts.save((key) => keys.has(key))

  return {
    async renew(all, keep = true) {
      const before = duties
      duties = new Map()
      const due = wanted()
      keys = new Set(due.map(({ key }) => key))
      for (const duty of due) {
        const known = all ? undefined : before.get(duty.key)
        if (known) duties.set(duty.key, known)
        else await time(duty)
      }
      if (keep && roster.names.length > 0) await save()
    },
    async mend() {
      for (const duty of [...duties.values()]) if (isLost(duty, Date.now())) await time(duty)
    },
    isDue: async (duty, until) => ((await time(duty))?.next ?? Number.POSITIVE_INFINITY) <= until,
    async begin(duty) {
      attempts.begin(duty, Date.now())
      await time(duty)
    },
    save,
    all: () => duties.values(),
  }
}
