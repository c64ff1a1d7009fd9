// files: what a snapshot holds
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'list what a snapshot holds',
    operands: 'target [snapshot[:path]]',
    options: { here: { help: 'only what lies directly in PATH, not all below it' } },
    columns: { entry: ['path', 'type', 'mode', 'uid', 'gid', 'size', 'mtime'] },
    opens: true,
  },
  async function* ({ options: { here }, operands: [name = '', what = 'latest'], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { splitName } = await import('../lib/snapshotname.ts')
    const { run } = await import('../lib/lifecycle.ts')
    return yield* run('files', await loadTarget(name), { ...splitName(what), here }, context)
  },
)
