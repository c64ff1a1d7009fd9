// scheduler: a daemon that starts what the targets have scheduled
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'start what targets have scheduled, when it is due: a daemon for machines without systemd timers',
    operands: '',
    options: {
      jobs: { value: 'N', as: 'count', help: 'so many runs at a time (2); of one target never more than one' },
      once: { help: 'run what is due now, wait for it, and end with the worst status' },
    },
    columns: { ended: ['target', 'verb', 'status', 'seconds'], upcoming: ['time', 'target', 'verb', 'due'] },
    changes: true,
    reloads: true,
  },
  async function* ({ options: { jobs = 2, once }, context }) {
    const { scheduler } = await import('../lib/scheduler.ts')
    return yield* scheduler({ jobs, once }, context)
  },
)
