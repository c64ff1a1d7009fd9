// doctor: looks whether all that the targets need is in order
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'look whether tools, configuration, secrets and stores are in order; nothing is changed',
    operands: '[target ...]',
    options: { effective: { help: 'show the settings of each target in force first, and what set them' } },
    columns: { finding: ['target', 'check', 'level', 'text', 'remedy'], setting: ['target', 'key', 'value', 'from'] },
    opens: true,
  },
  async function* ({ options, operands, context }) {
    const { doctor } = await import('../lib/doctor.ts')
    return yield* doctor(operands, options.effective, context)
  },
)
