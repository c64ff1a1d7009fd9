// restore: brings snapshots, or files of them, back
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'bring snapshots, or files of them, back',
    operands: 'target [snapshot[:path] ...]',
    options: {
      to: { value: 'DIR', help: 'restore into this folder, which is new or empty, with full paths' },
      'in-place': { help: 'restore to where the files were, and overwrite what is there' },
      include: { value: 'PATTERN', many: true, help: 'only what matches' },
      exclude: { value: 'PATTERN', many: true, help: 'not what matches' },
      verify: { help: 'read the restored files again, and compare them with the hashes in the store' },
      delete: { help: 'with --in-place: delete what the snapshot does not have (rsync, or restic 0.17 and later)' },
      force: { value: 'GUARD', many: true, help: 'override the guard of this name; the record says so' },
    },
    columns: { restored: ['to', 'target', 'snapshot', 'files', 'bytes', 'deleted', 'action'] },
    changes: true,
    opens: true,
  },
  async function* ({ options, operands: [name = '', ...names], context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { splitName } = await import('../lib/snapshotname.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const { run } = await import('../lib/lifecycle.ts')
    const { to, include, exclude, verify } = options
    if (to === undefined && !options['in-place'])
      throw new Failure('misuse', 'where to? --to DIR, or --in-place', { hint: 'kedge restore --help' })
    if (to !== undefined && options['in-place']) throw new Failure('misuse', '--to and --in-place exclude each other')
    if (to === '') throw new Failure('misuse', "option '--to' needs a folder")
    if (to !== undefined && options.delete) throw new Failure('misuse', '--delete needs --in-place: the folder of --to is empty')
    const what = (names.length > 0 ? names : ['latest']).map(splitName)
    const wanted = { what, include, exclude, verify, delete: options.delete, ...(to !== undefined && { to }) }
    return yield* run('restore', await loadTarget(name), wanted, context)
  },
)
