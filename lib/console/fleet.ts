// One command on many targets at once: a child for each, so many at a time; what they print, and how each ended.
import { batches, type Exit, start } from '../child.ts'
import type { Context, Rows } from '../contract.ts'
import { traitsOf } from '../engine.ts'
import { Cancelled, expected, Failure, statusFor, worst } from '../failure.ts'
import { handing } from '../handed.ts'
import { redact, say } from '../log.ts'
import type { Outcome } from '../rows/house.ts'
import { openSecrets } from '../secret.ts'
import { loadTarget } from '../target.ts'
import { type Channel, createChannel, createTurns } from './channel.ts'
import { commandFor } from './command.ts'
import { contextEnv, makeCache, privateCache } from './context.ts'
import { bounded, byGravity, errorLine, type Form, lastWords, outputRow } from './output.ts'
import { openSeconds } from './seconds.ts'
import { openSpool } from './spool.ts'

/** `shared`: options handed on to a verb. `jobs`: how many at a time. `grouped`: each target's output as a whole, when it ended. */
export type Fan = {
  readonly words: readonly string[]
  readonly shared: readonly string[]
  readonly jobs: number
  readonly grouped: boolean
  readonly form: Form
}

type Work = Fan & {
  context: Context
  channel: Channel<Rows>
  /** Opening secrets may ask: one question at a time, and what is typed for one target is tried on the next. */
  opening: ReturnType<typeof createTurns>
  printing: ReturnType<typeof createTurns>
  stop: (reason: Cancelled) => void
}

/** Seconds that a child has to end after ^C: a run of kedge's gives its own tool 20, and then keeps its record. */
const grace = 60

/** Rows as they come, and at the end one for each target that was begun, the worst first. Gives the worst of their statuses. */
export async function* fanOut(names: readonly string[], fan: Fan, caller: Context): AsyncGenerator<Rows, number> {
  const stopping = new AbortController()
  const context = { ...caller, signal: AbortSignal.any([caller.signal, stopping.signal]) }
  const { push, end, values } = createChannel<Rows>()
  const work: Work = {
    ...fan,
    context,
    channel: { push, end, values },
    opening: createTurns(),
    printing: createTurns(),
    stop: (reason) => stopping.abort(reason),
  }
  const outcomes: Outcome[] = []
  const waiting = [...names]
  const worker = async () => {
    while (!context.signal.aborted) {
      const name = waiting.shift()
      if (name === undefined) return
      const outcome = await one(name, work)
      if (outcome) outcomes.push(outcome)
      context.progress({ done: outcomes.length, total: names.length, unit: 'targets' })
    }
  }
  const all = Promise.all(Array.from({ length: Math.min(fan.jobs, names.length) }, worker)).finally(end)
  all.catch(() => undefined) // thrown where it is awaited
  try {
    yield* values()
    await all
  } finally {
    // Only where the caller left before the end: then no child may outlive this.
    stopping.abort(new Cancelled('SIGTERM'))
    await all
  }
  const statuses = outcomes.map(({ status }) => status)
  if (outcomes.length < names.length) {
    context.log(`${names.length - outcomes.length} of ${names.length} targets were not begun`)
    statuses.push(statusFor(context.signal.reason))
  }
  if (fan.form !== 'bare') yield byGravity(outcomes, worst)
  return worst(statuses)
}

/** How it ended; undefined where it was called off before its command began. */
async function one(name: string, work: Work): Promise<Outcome | undefined> {
  const { context } = work
  const from = Date.now()
  const outcome = (status: number, message: string): Outcome => {
    const seconds = Math.round((Date.now() - from) / 100) / 10
    return { kind: 'outcome', target: name, status, seconds, message: redact(message) }
  }
  let begun = false
  try {
    const begin = await work.opening(() => prepare(name, work))
    begun = true
    const { status, stderr } = await finish(name, begin, work)
    return outcome(status, status === 0 ? '' : lastWords(stderr))
  } catch (error) {
    if (error instanceof Cancelled) work.stop(error) // ^C at a question
    if (context.signal.aborted) return begun ? outcome(statusFor(context.signal.reason), 'stopped') : undefined
    const status = context.report(error, name)
    const known = expected(error)
    return outcome(status, known instanceof Failure ? known.message : 'this is a bug in kedge')
  }
}

type Begin = { words: readonly string[]; env: Readonly<Record<string, string>> }

async function prepare(name: string, { words, shared, context }: Work): Promise<Begin> {
  context.signal.throwIfAborted()
  const target = await loadTarget(name)
  const secrets = await openSecrets(target, context)
  const command = commandFor(name, words, shared)
  const seconds = command.verb ? await openSeconds(target, words, context) : []
  const traits = await traitsOf(target.engine)
  const cache = privateCache(target, traits)
  makeCache(cache)
  return { words: command.words, env: { ...contextEnv(target, secrets, cache, traits), ...handing(seconds) } }
}

async function finish(name: string, { words, env }: Begin, work: Work): Promise<Exit> {
  const { form, channel, context } = work
  const print = async (stream: AsyncIterable<Buffer>) => {
    for await (const lines of batches(bounded(stream))) {
      // Then the child's stdout is closed too: what only prints ends, and what does something else goes on.
      if (context.unread?.()) break
      await channel.push(lines.map((line) => outputRow(name, line, form)))
    }
  }
  const spool = work.grouped ? openSpool() : undefined
  try {
    const child = start(words, {
      env,
      signal: context.signal,
      cancel: 'SIGINT',
      grace,
      onStderr: (line) => say(errorLine(name, line, form)),
      ...(spool && { stdout: spool.fd }),
    })
    if (child.stdout) await print(child.stdout)
    return await child.done
  } finally {
    if (spool) {
      await work.printing(() => print(spool.read()))
      spool.close()
    }
  }
}
