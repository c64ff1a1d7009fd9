// Check: the structure always, the data when asked: all of it, or the slices that are due so that all is read every so often.
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { readJson, replaceFile } from '../../ledger.ts'
import { stateDir } from '../../paths.ts'
import type { Checked } from '../../rows.ts'
import { isVerified, oldestRead, planSlices, type SlicePlan, shareRead, unread, type Verified, withPace, withSlice } from '../../slices.ts'
import { zoneOf } from '../../target.ts'
import { damaged, damageOf } from './damage.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { verifyIdentity } from './identity.ts'
import { explain, repository, resticLines, version } from './tool.ts'
import type { Version } from './version.ts'

type Part = 'structure' | 'all' | { n: number; of: number }

/** argv; text and not --json: only text tells how far it is, and 0.14 knows no other. */
export function checkArgs(target: Target, part: Part, restic: Version): string[] {
  const read = part === 'structure' ? [] : part === 'all' ? ['--read-data'] : [`--read-data-subset=${part.n}/${part.of}`]
  return ['check', ...waitArgs(target, restic), ...read]
}

const check: VerbOf<'check'> = async function* (target, { readData, within }, context) {
  if (readData && within !== undefined) throw new Failure('misuse', '--read-data reads all: it goes without --within')
  if (within === 0) throw new Failure('misuse', '--within needs a span of more than nothing')
  const restic = await version(target)
  if (context.mode === 'explain') {
    const known = within === undefined ? undefined : await readVerified(target, target.env.STORE_ID)
    const plan = within === undefined ? undefined : await planned(target, known ?? unread('', seconds()), within)
    const parts: Part[] = plan ? plan.slices.map((n) => ({ n, of: plan.of })) : [readData ? 'all' : 'structure']
    for (const part of parts) yield explain(target, checkArgs(target, part, restic))
    return
  }
  const { id: store } = await verifyIdentity(target, context, context.signal, 'check')
  let verified = (await readVerified(target, store)) ?? unread(store, seconds())
  const keep = async (next: Verified) => {
    verified = next
    await replaceFile(verifiedFile(target), JSON.stringify(next))
  }
  const read = (part: Part, what?: string) => readPart(target, part, checkArgs(target, part, restic), context, what)
  const errors: string[] = []
  let slices: number | undefined
  if (within === undefined) {
    const at = seconds()
    errors.push(...(await read(readData ? 'all' : 'structure')))
    if (readData && errors.length === 0) await keep(withPace(withSlice(verified, 1, 1, at), at))
  } else {
    const plan = await planned(target, verified, within)
    slices = plan.slices.length
    let last = seconds()
    for (const [index, n] of plan.slices.entries()) {
      last = seconds()
      const found = await read({ n, of: plan.of }, `slice ${index + 1} of ${slices}`)
      // Damage in one slice must not keep the others from being read: it is the oldest from now on, and would come first each time.
      if (found.length === 0) await keep(withSlice(verified, n, plan.of, last))
      errors.push(...found)
    }
    await keep(withPace(verified, last))
  }
  if (errors.length > 0) throw damaged(target.name, repository(target), [...new Set(errors)])
  yield checked(target, verified, { read: readData ? 'all' : slices === undefined ? 'none' : 'slices', slices, within })
}
export default check

function checked(
  target: Target,
  verified: Verified,
  done: { read: Checked['read']; slices: number | undefined; within: number | undefined },
): Checked {
  const oldest = oldestRead(verified)
  const share = shareRead(verified, done.within === undefined ? 0 : seconds() - done.within)
  return {
    kind: 'checked',
    target: target.name,
    structure: 'ok',
    read: done.read,
    ...(done.slices !== undefined && { slices: done.slices }),
    verified: Math.round(share * 1000) / 1000,
    oldestVerified: oldest === null ? null : new Date(oldest * 1000).toISOString(),
  }
}

/** Runs one restic check; the errors that it found. */
async function readPart(
  target: Target,
  part: Part,
  args: readonly string[],
  context: RunContext,
  what: string | undefined,
): Promise<string[]> {
  const action = `check repository '${repository(target)}'`
  return await withoutOwnDeadLocks(target, context, async () => {
    const said: string[] = []
    const lines = resticLines(target, args, context, {
      action,
      accept: [1],
      onStderr: (line) => void (said.length < 10_000 && said.push(line)),
    })
    for (;;) {
      const { done, value } = await lines.next()
      if (done) {
        const errors = damageOf(action, value, said)
        for (const error of errors) context.log(`${part === 'structure' ? '' : what ? `${what}: ` : ''}${error}`)
        return errors
      }
      for (const line of value) show(line, context, what)
    }
  })
}

// '[1:05] 12.00%  3 / 25 packs'
function show(line: string, context: RunContext, what: string | undefined): void {
  const [, done, total, unit] = /% +(\d+) \/ (\d+) (snapshots|packs)/.exec(line) ?? []
  if (unit !== undefined) context.progress({ done: Number(done), total: Number(total), unit, ...(what !== undefined && { what }) })
  else if (line.trim() !== '') context.detail(line)
}

const seconds = () => Math.floor(Date.now() / 1000)
const verifiedFile = (target: Target) => join(stateDir(target.name), 'verified.json')

/** What was read of this store; undefined where nothing is known of it. Without an id: of whichever store it was. */
async function readVerified(target: Target, store: string | undefined): Promise<Verified | undefined> {
  const known = await readJson<unknown>(verifiedFile(target))
  return isVerified(known) && (store === undefined || known.store === store) ? known : undefined
}

async function planned(target: Target, verified: Verified, within: number): Promise<SlicePlan> {
  const now = seconds()
  const expression = target.env.SCHEDULE_CHECK
  const { interval } = await import('../../schedule.ts')
  const every = expression ? await interval(expression, { zone: zoneOf(target), seed: target.name, now: new Date(now * 1000) }) : 86_400
  return planSlices(verified, { within, interval: every, now })
}
