// One thing that doctor looked at: how it is, and what to do about it.

import type { Class } from '../failure.ts'
import type { Finding } from '../rows/house.ts'

/** `class`: what a blocked finding would fail with; it gives the status. */
export type Found = {
  readonly check: string
  readonly level: Finding['level']
  readonly text: string
  readonly remedy?: string
  readonly class?: Class
}

export const ok = (check: string, text: string): Found => ({ check, level: 'ok', text })
export const warning = (check: string, text: string, remedy: string): Found => ({ check, level: 'warning', text, remedy })
export const blocked = (check: string, text: string, remedy: string | undefined, kind: Class = 'tool'): Found => ({
  check,
  level: 'blocked',
  text,
  ...(remedy !== undefined && { remedy }),
  class: kind,
})

export const toFinding = (target: string, { class: _, ...found }: Found): Finding => ({ kind: 'finding', target, ...found })
