// init: creates a target's repository and pins its id; the only command that creates one
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: "create a target's store and pin its id; --adopt pins one that exists",
    operands: 'target',
    options: {
      adopt: { help: 'pin the repository that is there, and take in its snapshots' },
      host: { value: 'HOST', help: 'with --adopt: take in the snapshots of this host only' },
      path: { value: 'PATH', many: true, help: 'with --adopt: those that hold this path' },
      tag: { value: 'TAG', many: true, help: 'with --adopt: those that have one of these tags' },
      from: { value: 'FOLDER', help: "with --adopt: another tool's snapshots, taken in without copying (rsync)" },
      like: { value: 'TARGET', help: 'with the chunker parameters of this target, so that copies deduplicate' },
    },
    columns: { store: ['target', 'id', 'store', 'created', 'adopted'] },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options, operands: [name = ''], context }) {
    const { Failure } = await import('../lib/failure.ts')
    const { loadTarget } = await import('../lib/target.ts')
    const { copiersTo } = await import('../lib/copying.ts')
    const { run } = await import('../lib/lifecycle.ts')
    const filtered = options.host !== undefined || options.path.length > 0 || options.tag.length > 0
    if ((filtered || options.from !== undefined) && !options.adopt)
      throw new Failure('misuse', '--host, --path, --tag and --from go with --adopt')
    if (options.like !== undefined && options.adopt) throw new Failure('misuse', '--like cannot change a repository that exists')
    const target = await loadTarget(name)
    const like = options.like === undefined ? (await copiersTo(name))[0] : await loadTarget(options.like)
    const filter = { ...(options.host !== undefined && { host: options.host }), paths: options.path, tags: options.tag }
    const from = options.from !== undefined && { from: options.from }
    return yield* run('init', target, { adopt: options.adopt, filter, ...from, ...(like && !options.adopt && { like }) }, context)
  },
)
