// The locks of a target: kedge's own, and through the engine the store's. What a dead run left is removed, the rest only by force.
import type { Context, Rows, RunContext, Target } from './contract.ts'
import { verbOf } from './engine.ts'
import { Failure } from './failure.ts'
import { perform } from './lifecycle.ts'
import { breakLock, type Holder, holders } from './lock.ts'
import type { LockRow, Row } from './rows.ts'
import { lockDir } from './running.ts'

type Held = Awaited<ReturnType<typeof holders>>[number]

/** The write lock of a run that lives (or may) is status 11 unless forced: unlocking takes that lock itself. */
export async function* unlock(target: Target, force: boolean, context: Context): AsyncGenerator<Rows, number> {
  const act = await verbOf(target.engine, 'unlock')
  if ('instead' in act) throw new Failure('misuse', `the engine ${target.engine} has no unlock`, { hint: act.instead })
  const store = (inner: RunContext) => act(target, { force }, inner)
  if (context.mode === 'explain') return yield* perform('unlock', target, context, store)
  const dir = lockDir(target.name)
  const held = await holders(dir)
  const row = (each: Held, removed: LockRow['action']) => rowOf(target, each, each.alive === 'no' || force ? removed : 'kept')
  const running = held.find(({ name, alive }) => name === 'write' && alive !== 'no')
  if (running && !force) {
    yield held.map((each) => rowOf(target, each, 'kept'))
    for await (const rows of perform('unlock', target, { ...context, mode: 'dry-run' }, store)) yield kept(rows)
    throw new Failure('locked', `target '${target.name}' is locked by ${named(running.holder)}`, {
      hint:
        running.alive === 'yes'
          ? 'it lives, or one of its children does: wait for it, or stop it'
          : 'whether it lives cannot be told from here; --force breaks its lock',
    })
  }
  if (context.mode === 'dry-run') {
    yield held.map((each) => row(each, 'would remove'))
    return yield* perform('unlock', target, context, store)
  }
  if (running && (await breakLock(dir, running.name, running.n))) context.log(`broke the lock of ${named(running.holder)}`)
  return yield* perform('unlock', target, context, async function* (inner) {
    for (const each of held) {
      // A dead run's write lock was taken over just now, and the run recorded as crashed.
      if (each.name !== 'write' && (each.alive === 'no' || force)) await breakLock(dir, each.name, each.n)
      yield row(each, 'removed')
    }
    yield* store(inner)
  })
}

const named = (holder: Holder | undefined): string =>
  holder
    ? `run ${holder.run} (${holder.verb}, pid ${holder.pid} on host ${holder.host}, since ${holder.at})`
    : 'a run whose lock cannot be read'

function rowOf(target: Target, { name, n, holder, alive }: Held, action: LockRow['action']): LockRow {
  const age = holder ? Math.max(0, Math.round((Date.now() - Date.parse(holder.at)) / 1000)) : 0
  return {
    kind: 'lock',
    target: target.name,
    of: 'kedge',
    id: `${name}.${n}`,
    host: holder?.host ?? '',
    pid: holder?.pid ?? 0,
    time: holder?.at ?? '',
    age,
    alive,
    exclusive: true,
    action,
  }
}

function kept(rows: Rows): Rows {
  const one = (each: Row): Row => (each.kind === 'lock' ? { ...each, action: 'kept' } : each)
  return Array.isArray(rows) ? (rows as readonly Row[]).map(one) : one(rows as Row)
}
