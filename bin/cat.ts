// cat: one file of a snapshot, its raw bytes
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'write one file of a snapshot to stdout, as raw bytes; a folder comes as tar',
    operands: 'target snapshot:path',
    options: {},
    columns: {},
    opens: true,
  },
  async function* ({ operands: [name = '', what = ''], context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const { splitName } = await import('../lib/snapshotname.ts')
    const { run } = await import('../lib/lifecycle.ts')
    const { snapshot, path } = splitName(what)
    if (path === undefined) throw new Failure('misuse', `no path in '${what}'`, { hint: `kedge cat ${name} latest:/etc/hosts` })
    return yield* run('cat', await loadTarget(name), { snapshot, path }, context)
  },
)
