// backup: saves the sources of targets as new snapshots
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'save the sources of targets as new snapshots',
    operands: '[target ...]',
    options: {
      'files-from': { value: 'FILE', help: "save the paths in this file ('-': stdin), one a line, in place of the target's own" },
      null: { short: '0', help: 'the names in that file end in NUL' },
      tag: { value: 'TAG', many: true, help: 'a further tag for the snapshots' },
      manual: { help: 'beside the chain of the scheduled ones, with keep rules of its own (rsync)' },
    },
    columns: {
      summary: ['target', 'snapshot', 'files', 'bytes', 'added', 'seconds'],
      copied: ['target', 'to', 'copied', 'present'],
    },
    changes: true,
    locks: true,
    opens: true,
  },
  async function* ({ options, operands, context }) {
    const { several } = await import('../lib/several.ts')
    const { backUp } = await import('../lib/aftercopy.ts')
    const { readNames } = await import('../lib/source/names.ts')
    const { wrongTag } = await import('../lib/keys.ts')
    const { Failure } = await import('../lib/failure.ts')
    if (options['files-from'] !== undefined && operands.length !== 1) throw new Failure('misuse', '--files-from needs exactly one target')
    for (const tag of options.tag) {
      const wrong = wrongTag(tag)
      if (wrong) throw new Failure('misuse', `not a tag: '${tag}'`, { hint: wrong })
    }
    if (options.null && options['files-from'] === undefined) throw new Failure('misuse', 'option -0 needs --files-from')
    const names = options['files-from'] === undefined ? undefined : await readNames(options['files-from'], options.null)
    const { isSecondStore } = await import('../lib/target.ts')
    const wanted = { tags: options.tag, manual: options.manual, ...(names && { names }) }
    return yield* several(operands, context, (target) => backUp(target, wanted, context), isSecondStore)
  },
)
