// What a target has scheduled: which verbs, and each one's expression, zone, draw and shift. Pure.
import type { Target } from '../contract.ts'
import { parseDuration } from '../format.ts'
import { jitter } from '../schedule.ts'
import { isSecondStore, zoneOf } from '../target.ts'

/** The verbs that a target can schedule, by SCHEDULE_VERB. */
export const scheduledVerbs = ['backup', 'prune', 'check', 'drill', 'copy'] as const
export type ScheduledVerb = (typeof scheduledVerbs)[number]

/**
 * `zone`: an IANA name, or `local`. `seed`: what H is drawn by. `offsetSeconds`: by how much SCHEDULE_JITTER shifts each due time of this
 * target and verb: whole seconds, less than its value, always the same. A run is due at a due time of the expression plus this.
 */
export type Schedule = { readonly expression: string; readonly zone: string; readonly seed: string; readonly offsetSeconds: number }

/** When a verb is due on a target; undefined where the target does not schedule it. */
export function scheduleOf(target: Target, verb: ScheduledVerb): Schedule | undefined {
  const expression = target.env[`SCHEDULE_${verb.toUpperCase()}`]
  // defaults.env may schedule a backup for all targets: a second store has nothing to save.
  if (!expression || (verb === 'backup' && isSecondStore(target))) return undefined
  // loadTarget has refused what is no duration.
  const most = parseDuration(target.env.SCHEDULE_JITTER ?? '') ?? 0
  return { expression, zone: zoneOf(target), seed: target.name, offsetSeconds: jitter(most, `${target.name} ${verb}`) }
}
