// new: writes the folder of a new target
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'write the folder of a new target, with a password and a recovery sheet',
    operands: 'target',
    options: {
      path: { value: 'PATH', many: true, help: 'a folder or file to save' },
      repo: { value: 'REPOSITORY', help: 'where the snapshots are to lie: a folder, sftp:…, s3:…, rest:…' },
      exclude: { value: 'PATTERN', many: true, help: 'what to leave out' },
      keep: { value: 'RULES', help: "what prune keeps, as 'daily=7,weekly=5,monthly=12,yearly=3'" },
      schedule: { value: 'CRON', help: "when a backup is due, as 'H H(1-5) * * *'" },
      secret: { value: 'PROVIDER', help: 'where the secrets are kept: gpg, command, credential, file, none' },
      recipient: { value: 'KEY', help: 'encrypt the secrets to this gpg key' },
      'copy-of': { value: 'TARGET', help: 'a second store: copy brings the snapshots of TARGET here' },
      set: { value: 'KEY=VALUE', many: true, help: 'a further setting' },
      existing: { help: 'the repository exists: take its password, and make none' },
      'password-fd': { value: 'N', as: 'count', help: 'read the password of an existing repository from this descriptor' },
      'secrets-fd': { value: 'N', as: 'count', help: 'read further secrets from this descriptor: an env file' },
    },
    columns: { file: ['path', 'action', 'target'] },
    changes: true,
    opens: true,
  },
  async function* ({ options, operands: [name = ''], context }) {
    const { checkName } = await import('../lib/target.ts')
    const { wantedTarget } = await import('../lib/newtarget/ask.ts')
    const { writeTarget } = await import('../lib/newtarget/write.ts')
    const wanted = await wantedTarget(checkName(name), options, context)
    const how = { copyOf: options['copy-of'], existing: options.existing, passwordFd: options['password-fd'] }
    yield* writeTarget(wanted, how, context)
    return 0
  },
)
