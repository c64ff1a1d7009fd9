// `kedge notify digest`: how all targets stand, once a day, also when all is well: a digest that does not come tells as well.
import { hostname } from 'node:os'
import type { Context, Rows, Target } from '../contract.ts'
import { Failure, statusFor, statusOf, worst } from '../failure.ts'
import { overviewOf } from '../overview.ts'
import { stateDir } from '../paths.ts'
import { preamble } from '../preamble.ts'
import { openSecrets } from '../secret.ts'
import { standingOf } from '../standing.ts'
import { loadTarget, targetNames } from '../target.ts'
import { complain, sendOver } from './channels.ts'
import { digestText, isWell, type TargetFacts } from './digesttext.ts'
import { failing, noteChannels, readMemory } from './memory.ts'
import type { Notice } from './notice.ts'
import { addressKey, type ChannelName, looseSettings, mayNeedSecrets, type Settings, settingsOf } from './settings.ts'
import { byHand, preview, toldRow } from './show.ts'
import { outcomes } from './telling.ts'

/** `broken`: it does not load; then of its channels only what its files tell is known. */
type Member = {
  readonly settings: Settings
  readonly facts: TargetFacts
  readonly status: number
  readonly broken?: true
  readonly target?: Target
}
/** Those who read of their targets in one message. */
type Group = { readonly channel: ChannelName; readonly members: readonly Member[] }

/**
 * Of the targets named, or of all that have digest in NOTIFY_ON. Returns the worst status: of what could not be sent, of targets that do
 * not load, 3 where secrets do not open.
 */
export async function* digest(names: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  const now = new Date()
  const members: Member[] = []
  for (const name of names.length > 0 ? names : await targetNames()) {
    const member = await memberOf(name, names.length > 0, now, context)
    if (member) members.push(member)
  }
  const statuses = members.map(({ status }) => status)
  const groups = grouped(members)
  if (groups.length === 0 && statuses.every((status) => status === 0)) {
    const hint = 'both stand in target.env, or in defaults.env for all'
    throw new Failure('misuse', 'no target has digest in NOTIFY_ON and a channel in NOTIFY', { hint })
  }
  for (const [index, group] of groups.entries()) statuses.push(yield* sendGroup(group, index, now, context))
  return worst(statuses)
}

/** Undefined for a target that is not in the digest. */
async function memberOf(name: string, named: boolean, now: Date, context: Context): Promise<Member | undefined> {
  let target: Target
  try {
    target = await loadTarget(name)
  } catch (error) {
    if (!(error instanceof Failure) || (named && error.class === 'misuse')) throw error
    const facts = { target: name, rows: [], skipped: [], troubles: [error.message] }
    return { settings: await looseSettings(name), facts, status: context.report(error, name), broken: true }
  }
  const plain = settingsOf(target, undefined)
  if (plain.channels.length === 0) {
    if (!named) return undefined
    const hint = 'NOTIFY=mail in target.env or defaults.env'
    throw new Failure('misuse', `target '${name}' notifies nobody: NOTIFY is not set`, { hint })
  }
  if (!named && !plain.events.includes('digest')) return undefined
  const { settings, trouble } = await opened(target, plain, context)
  const troubles = [...(trouble ? [trouble.message] : []), ...failing(await readMemory(name), settings.channels)]
  return { target, settings, facts: { ...(await factsOf(target, now)), troubles }, status: trouble ? statusOf.partial : 0 }
}

/** The settings with the secrets, where a channel may need them; without, and why, where they do not open. */
async function opened(target: Target, plain: Settings, context: Context): Promise<{ settings: Settings; trouble?: Failure }> {
  if (context.mode === 'explain' || !mayNeedSecrets(target, plain)) return { settings: plain }
  try {
    return { settings: settingsOf(target, await openSecrets(target, context)) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.report(error, target.name)
    return { settings: plain, trouble: error }
  }
}

async function factsOf(target: Target, now: Date): Promise<Omit<TargetFacts, 'troubles'>> {
  const { last, sizes } = overviewOf(stateDir(target.name), new Map())
  const skipped = Object.values(last).flatMap(({ last: run }) => (run.state === 'skipped' ? [run] : []))
  return { target: target.name, rows: await standingOf(target, { now }), sizes, skipped }
}

/** One group an address. A broken target whose channels are not known is told to all. */
function grouped(members: readonly Member[]): Group[] {
  const lost = members.filter(({ broken, settings }) => broken && settings.channels.length === 0)
  const groups = new Map<string, { channel: ChannelName; members: Member[] }>()
  for (const member of members) {
    for (const channel of member.settings.channels) {
      const key = addressKey(channel, member.settings)
      const group = groups.get(key) ?? { channel, members: [...lost] }
      group.members.push(member)
      groups.set(key, group)
    }
  }
  return [...groups.values()]
}

async function* sendGroup({ channel, members }: Group, index: number, now: Date, context: Context): AsyncGenerator<Rows, number> {
  const notice = digestNotice(members, index, now)
  // Their addresses are the same: the first one's serve.
  const { settings, target } = members.find((each) => each.settings.channels.includes(channel)) ?? {}
  if (!settings) throw new Error(`a group of nobody: ${channel}`)
  if (context.mode === 'explain') {
    // Each in a shell of its own: what one target sets must not reach the next.
    yield { kind: 'command', command: '(' }
    if (target) yield* preamble(target)
    const statuses = yield* byHand([channel], notice, settings, context)
    yield { kind: 'command', command: ')' }
    return worst(statuses)
  }
  if (context.mode === 'dry-run') {
    yield* preview([channel], notice, settings)
    return 0
  }
  const sent = await sendOver([channel], notice, settings, context.signal, true)
  complain(sent, notice.target, context)
  yield sent.map((each) => toldRow(each, notice.target))
  for (const each of members)
    if (!each.broken) await noteChannels(each.settings.target, each.settings.channels, outcomes(sent, notice.id), now.toISOString())
  return worst(sent.flatMap(({ failure }) => (failure ? [statusFor(failure)] : [])))
}

function digestNotice(members: readonly Member[], index: number, now: Date): Notice {
  const facts = members.map((each) => each.facts)
  const host = hostname()
  const time = now.toISOString()
  const well = facts.every(isWell)
  return {
    event: 'digest',
    target: facts.map(({ target }) => target).join(','),
    verb: 'digest',
    id: `digest-${time.replace(/\W/g, '')}-${index}`,
    time,
    host,
    ...digestText(facts, host, now),
    record: { kind: 'digest', host, time, well, targets: facts.map((each) => ({ ...each, well: isWell(each) })) },
    outcome: well ? 'good' : 'bad',
    log: '',
  }
}
