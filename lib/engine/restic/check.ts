// Check: the structure always, the data when asked: all of it, or the slices that are due so that all is read every so often.
import { checked, judgeOptions, type Part, partsNow, type Reader, readAll } from '../../checking.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { damaged, damageOf } from './damage.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { verifyIdentity } from './identity.ts'
import { explain, repository, resticLines, version } from './tool.ts'
import type { Version } from './version.ts'

/** argv; text and not --json: only text tells how far it is, and 0.14 knows no other. */
export function checkArgs(target: Target, part: Part, restic: Version): string[] {
  const read = part === 'structure' ? [] : part === 'all' ? ['--read-data'] : [`--read-data-subset=${part.n}/${part.of}`]
  return ['check', ...waitArgs(target, restic), ...read]
}

const check: VerbOf<'check'> = async function* (target, options, context) {
  judgeOptions(options)
  const restic = await version(target)
  if (context.mode === 'explain') {
    const parts = await partsNow(target, options)
    for (const part of parts.length > 0 ? parts : (['structure'] as const)) yield explain(target, checkArgs(target, part, restic))
    return
  }
  const { id: store } = await verifyIdentity(target, context, context.signal, 'check')
  const errors: string[] = []
  const read: Reader = async (part, what) => {
    const found = await readPart(target, part, checkArgs(target, part, restic), context, what)
    errors.push(...found)
    return found.length === 0
  }
  // restic's check of data looks at the structure as well.
  if (!options.readData && options.within === undefined) await read('structure')
  const done = await readAll(target, store, options, read)
  if (errors.length > 0) throw damaged(target.name, repository(target), [...new Set(errors)])
  yield checked(target, done)
}
export default check

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
