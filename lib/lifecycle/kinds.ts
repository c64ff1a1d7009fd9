// What a run of each verb takes.
import type { Rows, RunContext } from '../contract.ts'

/**
 * `lock`: check and drill have their own, beside which a backup may run. `record`: it is on record. `hooked`: it calls hooks, and waits
 * for mains power. `told`: how it ended is told by NOTIFY. `closed`: no secrets. `open`: it lasts until it is ended.
 */
export type Kind = {
  lock?: 'write' | 'check' | 'drill'
  record?: true
  guarded?: true
  hooked?: true
  told?: true
  closed?: true
  open?: true
}

const marking: Kind = { lock: 'write', record: true, guarded: true, hooked: true }
const saving: Kind = { ...marking, told: true }

export const kinds: Readonly<Record<string, Kind>> = {
  backup: saving,
  prune: saving,
  copy: saving,
  forget: marking,
  hold: marking,
  init: { lock: 'write', record: true, hooked: true },
  accept: { lock: 'write', record: true, hooked: true, closed: true },
  unlock: { lock: 'write', record: true, hooked: true },
  rotate: saving,
  secret: { lock: 'write', closed: true },
  key: { lock: 'write', closed: true },
  rename: { lock: 'write', closed: true },
  remove: { lock: 'write', closed: true },
  check: { lock: 'check', record: true, hooked: true, told: true },
  drill: { lock: 'drill', record: true, hooked: true, told: true },
  restore: { record: true },
  mount: { open: true },
}

/** What a verb does within its run. */
export type BodyOf = (context: RunContext) => AsyncIterable<Rows>
