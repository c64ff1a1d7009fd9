// schedule: what runs when, and what starts it on this machine
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'list what runs when; install or remove what starts it: timers of systemd, a crontab, a daemon',
    operands: '[list | install | remove] [target ...]',
    options: { by: { value: 'WAY', help: 'with install and remove: systemd, crontab or rc.d, in place of what the machine has' } },
    columns: {
      scheduled: ['target', 'verb', 'schedule', 'next', 'by', 'state', 'good'],
      file: ['path', 'action', 'target'],
    },
    changes: true,
  },
  async function* ({ options: { by }, operands, context }) {
    const { install, list, remove } = await import('../lib/timers.ts')
    const [first = 'list', ...rest] = operands
    if (first === 'install') return yield* install(by, rest, context)
    if (first === 'remove') return yield* remove(by, rest, context)
    if (first === 'list') return yield* list(by, rest, context)
    const { nearest } = await import('../lib/nearest.ts')
    const { targetNames } = await import('../lib/target.ts')
    const like = nearest(first, ['list', 'install', 'remove'])
    if (like && !(await targetNames()).includes(first)) {
      const { Failure } = await import('../lib/failure.ts')
      throw new Failure('misuse', `neither an action nor a target: '${first}'`, { hint: `did you mean ${like}?` })
    }
    return yield* list(by, operands, context)
  },
)
