// config: each setting in force, and what set it
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'show each setting of a target in force, and the file and line that set it',
    operands: 'target [key ...]',
    options: { secrets: { help: 'open the secrets and list their keys too, never their values' } },
    columns: { setting: ['key', 'value', 'from'] },
    opens: true,
  },
  async function* ({ options, operands: [name = '', ...keys], context }) {
    const { loadTarget } = await import('../lib/target.ts')
    const { settingsOf } = await import('../lib/settings.ts')
    yield await settingsOf(await loadTarget(name), { keys, secrets: options.secrets }, context)
    return 0
  },
)
