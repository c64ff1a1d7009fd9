// What is wrong is said once, and again only when its words change: a scheduler looks every few seconds, for months.
import type { Context } from '../contract.ts'

export type Complaints = {
  /** `about`: what is wrong; `prefix`: what the message begins with. */
  make: (about: string, error: unknown, prefix?: string) => void
  /** It is well again, or gone, with all that begins with its name and a blank. True where it was not well. */
  settle: (about: string) => boolean
  /** The statuses of what is wrong now. */
  readonly statuses: Iterable<number>
}

export function createComplaints(report: Context['report']): Complaints {
  const made = new Map<string, { text: string; status: number }>()
  return {
    make(about, error, prefix) {
      const text = error instanceof Error ? error.message : String(error)
      if (made.get(about)?.text !== text) made.set(about, { text, status: report(error, prefix) })
    },
    settle(about) {
      for (const key of made.keys()) if (key.startsWith(`${about} `)) made.delete(key)
      return made.delete(about)
    },
    get statuses() {
      return [...made.values()].map(({ status }) => status)
    },
  }
}
