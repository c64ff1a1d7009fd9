// drill: proves that a target can be restored
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'restore a random sample into scratch space, and compare it',
    operands: 'target [snapshot]',
    options: {
      count: { value: 'N', as: 'count', help: 'so many files of each snapshot (20)' },
      bytes: { value: 'SIZE', as: 'bytes', help: 'as many files as fit in SIZE' },
      scratch: { value: 'DIR', help: 'restore below this folder, not in the state folder' },
    },
    columns: { drilled: ['target', 'snapshot', 'files', 'bytes', 'source', 'hashes', 'seconds'] },
    finishes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options: { count, bytes, scratch }, operands: [name = '', snapshot], context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const { run } = await import('../lib/lifecycle.ts')
    if (count === 0 || bytes === 0) throw new Failure('misuse', 'a sample of nothing proves nothing', { hint: 'kedge drill --help' })
    const wanted = {
      ...(count !== undefined && { count }),
      ...(bytes !== undefined && { bytes }),
      ...(scratch !== undefined && { scratch }),
      ...(snapshot !== undefined && { snapshot }),
    }
    return yield* run('drill', await loadTarget(name), wanted, context)
  },
)
