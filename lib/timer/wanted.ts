// What is to run when: the verbs that targets schedule, and the digest of all.
import type { Context, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { parseDuration } from '../format.ts'
import type { Schedule } from '../schedule/verbs.ts'
import { digestDuties, dutiesOf } from '../scheduler/duty.ts'
import { loadTarget, targetNames } from '../target.ts'

/** `target` is `-` for a digest, which is of several. `unit`: the name of its timer and service without the suffix. `jitter`: seconds. */
export type Wanted = {
  readonly target: string
  readonly verb: string
  readonly command: readonly string[]
  /** What it does, as `backup web1`: by this a line of a crontab is known. */
  readonly what: string
  readonly unit: string
  readonly schedule: Schedule
  readonly jitter: number
}
export type House = {
  /** Those that were asked for. */
  readonly targets: readonly Target[]
  readonly wanted: readonly Wanted[]
  /** Targets that do not load: what was written for them stays. */
  readonly broken: ReadonlySet<string>
  readonly statuses: readonly number[]
}

/** `names` empty: all targets, and the digests. One that does not load is reported, and hides no other. */
export async function readHouse(names: readonly string[], context: Pick<Context, 'report'>): Promise<House> {
  const targets: Target[] = []
  const broken = new Set<string>()
  const statuses: number[] = []
  for (const name of names.length > 0 ? new Set(names) : await targetNames()) {
    try {
      targets.push(await loadTarget(name))
    } catch (error) {
      if (!(error instanceof Failure) || error.class === 'misuse') throw error
      broken.add(name)
      statuses.push(context.report(error, name))
    }
  }
  const digests = names.length === 0 ? digestsOf(targets) : []
  return { targets, wanted: [...targets.flatMap(wantedOf), ...digests], broken, statuses }
}

export const wantedOf = (target: Target): Wanted[] =>
  dutiesOf(target).map(({ verb, command, schedule }) => {
    const jitter = parseDuration(target.env.SCHEDULE_JITTER ?? '') ?? 0
    return { target: target.name, verb, command, what: `${verb} ${target.name}`, schedule, jitter, unit: `kedge-${verb}@${target.name}` }
  })

/** One for all that ask for it; where their SCHEDULE_DIGEST differ, one for each time, with the names of its targets. */
function digestsOf(targets: readonly Target[]): Wanted[] {
  return digestDuties(targets).map(({ verb, command, schedule }, i) => ({
    target: '-',
    verb,
    command,
    what: command.join(' '),
    schedule,
    jitter: 0,
    unit: i === 0 ? 'kedge-digest' : `kedge-digest-${i + 1}`,
  }))
}
