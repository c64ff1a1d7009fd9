// run: any command in the context of a target, or of many
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'run a kedge command or any program in the context of a target, with its secrets; or in that of many',
    operands: '[target] [command ...]',
    verbatim: true,
    options: {
      all: { short: 'a', help: 'on all targets' },
      group: { value: 'NAME', many: true, help: 'on those whose GROUP has this name' },
      match: { value: 'GLOB', many: true, help: 'on those whose names match this pattern (*, ?, [a-z])' },
      jobs: { short: 'j', value: 'N', as: 'count', help: 'on so many at a time (4)' },
      grouped: { help: "print each target's output as a whole, when it has ended" },
    },
    columns: { outcome: ['target', 'status', 'seconds', 'message'] },
    finishes: true,
    opens: true,
  },
  async function* ({ options, operands, context }) {
    const { runIn } = await import('../lib/console/run.ts')
    // What every command has is for a verb of kedge's too.
    const given: Readonly<Record<string, unknown>> = options
    const shared = ['json', 'quiet', 'verbose'].filter((name) => given[name] === true).map((name) => `--${name}`)
    const { all, group, match, jobs, grouped } = options
    return yield* runIn(operands, { all, group, match, jobs, grouped, shared }, context)
  },
)
