// Two repositories in one restic: the environment names the other as FROM. Cloud credentials have one name for both.
import type { Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { preamble } from '../../preamble.ts'
import type { CommandLine } from '../../rows.ts'
import { resticEnv } from './tool.ts'

const cloud = /^(?:AWS|B2|AZURE|GOOGLE|OS|ST|RCLONE|RESTIC_REST)_/

/** What is added to the environment of `target` so that it copies from `from`. Failure 'config' when both name different credentials. */
export function secondEnv(
  target: Target,
  secrets: Readonly<Record<string, string>>,
  from: Target,
  fromSecrets: Readonly<Record<string, string>>,
): Record<string, string> {
  const own = resticEnv(target, secrets)
  const other = resticEnv(from, fromSecrets)
  const clash = Object.keys(other).filter((key) => cloud.test(key) && own[key] !== undefined && own[key] !== other[key])
  if (clash.length > 0) {
    throw new Failure(
      'config',
      `targets '${from.name}' and '${target.name}' cannot meet in one restic: both set ${clash.join(', ')}, to different values`,
      {
        hint: 'give one key rights on both stores, or reach one of them through rclone or a rest-server',
      },
    )
  }
  const added: Record<string, string> = {}
  for (const [key, value] of Object.entries(other)) if (cloud.test(key)) added[key] = value
  for (const name of ['REPOSITORY', 'REPOSITORY_FILE', 'PASSWORD_FILE', 'PASSWORD_COMMAND']) {
    const value = other[`RESTIC_${name}`]
    if (value !== undefined) added[`RESTIC_FROM_${name}`] = value
  }
  if (fromSecrets.RESTIC_PASSWORD !== undefined) added.RESTIC_FROM_PASSWORD_COMMAND = 'sh -c "cat <&4"'
  return added
}

/** The same by hand: the other target's files name its repository and password. */
export function fromSecond(from: Target): CommandLine {
  const [{ command } = { command: ':' }] = [...preamble(from)]
  const of = (name: string) => `"$(${command}; printf %s "$${name}")"`
  return {
    kind: 'command',
    command: `export RESTIC_FROM_REPOSITORY=${of('RESTIC_REPOSITORY')} RESTIC_FROM_PASSWORD=${of('RESTIC_PASSWORD')}`,
  }
}
