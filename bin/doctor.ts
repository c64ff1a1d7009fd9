// doctor: looks whether all that the targets need is in order
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'look whether tools, configuration, secrets and stores are in order; nothing is changed',
    operands: '[target ...]',
    options: {},
    columns: { finding: ['target', 'check', 'level', 'text', 'remedy'] },
    opens: true,
  },
  async function* ({ operands, context }) {
    const { doctor } = await import('../lib/doctor.ts')
    return yield* doctor(operands, context)
  },
)
