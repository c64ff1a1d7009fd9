// prime: gpg-agent holds the keys of targets' secrets from now on
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: "make gpg-agent hold the keys of targets' secrets, and say until when",
    operands: '[target ...]',
    options: { all: { short: 'a', help: 'the keys of all targets' } },
    columns: { primed: ['key', 'until', 'targets'] },
    finishes: true,
  },
  async function* ({ options: { all }, operands, context }) {
    const { prime } = await import('../lib/console/prime.ts')
    return yield* prime(operands, all, context)
  },
)
