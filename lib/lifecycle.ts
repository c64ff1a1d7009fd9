// The life of a run: what is explained, rehearsed, or done without a record is done here; runs on record by lifecycle/recorded.ts.
// What a verb does is the engine's.
import type { Context, Rows, RunContext, Target, Verb, Verbs } from './contract.ts'
import { verbOf } from './engine.ts'
import { Failure, statusOf } from './failure.ts'
import { guards } from './guard.ts'
import { explainHooks } from './hook.ts'
import { guard, takeLock, timeLimit } from './lifecycle/entry.ts'
import { type BodyOf, type Kind, kinds } from './lifecycle/kinds.ts'
import { recorded } from './lifecycle/recorded.ts'
import { preamble } from './preamble.ts'
import { openSecrets } from './secret.ts'

/** One run of an engine's verb on a target. Returns the status: 0, or 3 when a part was not done. */
export async function* run<V extends Verb>(
  verb: V,
  target: Target,
  options: Verbs[V]['options'],
  context: Context,
): AsyncGenerator<Rows, number> {
  const act = await verbOf(target.engine, verb)
  if ('instead' in act) throw new Failure('misuse', `the engine ${target.engine} has no ${verb}`, { hint: act.instead })
  const names = verb === 'backup' ? (options as Verbs['backup']['options']).names : undefined
  return yield* perform(verb, target, context, (runContext) => act(target, options, runContext), names)
}

/** The same for work that no engine does. */
export async function* perform(
  verb: string,
  target: Target,
  context: Context,
  body: (context: RunContext) => AsyncIterable<Rows>,
  names?: readonly string[],
): AsyncGenerator<Rows, number> {
  const unknown = [...context.forced].find((guard) => !Object.hasOwn(guards, guard))
  if (unknown !== undefined) throw new Failure('misuse', `no guard '${unknown}'`, { hint: `the guards: ${Object.keys(guards).join(', ')}` })
  const kind = kinds[verb] ?? {}
  if (context.mode === 'explain') {
    yield* preamble(target)
    if (kind.hooked) yield* explainHooks(`before-${verb}`, target, verb)
    yield* body(bare(context, {}))
    if (kind.hooked) for (const event of [`after-${verb}`, 'on-success', 'finally']) yield* explainHooks(event, target, verb)
    return 0
  }
  if (context.mode === 'dry-run' || !kind.record) return yield* unrecorded(verb, target, context, kind, body, names)
  return yield* recorded(verb, target, context, kind, body, names)
}

/** A context without a run: for reading verbs, dry runs, and doctor. */
export function bare(context: Context, secrets: Readonly<Record<string, string>>): RunContext {
  return {
    ...context,
    run: '',
    secrets,
    dead: [],
    buried: async () => undefined,
    warn: (message) => context.log(`warning: ${message}`),
    group: () => undefined,
  }
}

async function* unrecorded(verb: string, target: Target, context: Context, kind: Kind, body: BodyOf, names: readonly string[] | undefined) {
  let partial = false
  const lock = kind.lock && context.mode === 'act' ? await takeLock(verb, target, context, kind.lock, `${verb}-${process.pid}`) : undefined
  const limit = kind.open ? { signal: context.signal, clear: () => undefined } : timeLimit(target, context.signal)
  const limited = { ...context, signal: limit.signal }
  try {
    const inner = bare(limited, kind.closed ? {} : await openSecrets(target, limited))
    const warn: RunContext['warn'] = (message, kind) => {
      partial ||= kind !== undefined
      inner.warn(message)
    }
    if (kind.guarded) await guard(verb, target, limited, warn, names)
    yield* body({ ...inner, warn })
  } finally {
    limit.clear()
    await lock?.release()
  }
  return partial ? statusOf.partial : 0
}
