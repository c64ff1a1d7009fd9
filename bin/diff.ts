// diff: what changed between two snapshots, or since one
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'show what changed between two snapshots, or between one and the live source',
    operands: 'target [old [newer]]',
    options: {
      top: { value: 'N', as: 'count', help: 'the N folders that grew most, in place of each change' },
      live: { help: 'compare a snapshot (the latest) with what is on disk now' },
      metadata: { help: 'show what changed in its owner, mode or times only, too' },
    },
    columns: { change: ['change', 'before', 'after', 'path'], growth: ['growth', 'written', 'files', 'path'] },
    opens: true,
  },
  async function* ({ options: { top, live, metadata }, operands: [name = '', old, newer], context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const { run } = await import('../lib/lifecycle.ts')
    if (top === 0) throw new Failure('misuse', 'option --top takes a number from 1')
    if (live && newer !== undefined) throw new Failure('misuse', '--live compares one snapshot with the source: no second one')
    if (live && metadata) throw new Failure('misuse', '--live shows changed metadata by itself: no --metadata')
    const options = { live, metadata, ...(top && { top }), ...(old && { old }), ...(newer && { newer }) }
    return yield* run('diff', await loadTarget(name), options, context)
  },
)
