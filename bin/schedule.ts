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
    return yield* list(by, first === 'list' ? rest : operands, context)
  },
)
