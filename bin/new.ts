// new: writes the folder of a new target
import { command } from '../lib/cli.ts'

export default command(
  {
    summary: 'write the folder of a new target, with a password and a recovery sheet',
    operands: 'target',
    options: {
      path: { value: 'PATH', many: true, help: 'a folder or file to save' },
      engine: { value: 'ENGINE', help: 'restic, or rsync; default: the one whose --repo or --store is given' },
      repo: { value: 'REPOSITORY', help: 'restic: where the snapshots are to lie: a folder, sftp:…, s3:…, rest:…' },
      store: { value: 'FOLDER', help: 'rsync: the folder that is to hold the snapshots' },
      'source-host': { value: 'HOST', help: 'rsync: the host whose paths are saved, as ssh names it ([user@]host)' },
      'source-port': { value: 'N', as: 'count', help: "rsync: the port of that host's sshd" },
      exclude: { value: 'PATTERN', many: true, help: 'what to leave out' },
      keep: { value: 'RULES', help: "what prune keeps, as 'daily=7,weekly=5,monthly=12,yearly=3'" },
      schedule: { value: 'CRON', help: "when a backup is due, as 'H H(1-5) * * *'" },
      secret: { value: 'PROVIDER', help: 'where the secrets are kept: gpg, command, credential, file, none' },
      recipient: { value: 'KEY', help: 'encrypt the secrets to this gpg key' },
      'copy-of': { value: 'TARGET', help: 'a second store: copy brings the snapshots of TARGET here' },
      set: { value: 'KEY=VALUE', many: true, help: 'a further setting' },
      existing: { help: 'the repository exists: take its password, and make none (rsync: the store exists)' },
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
