// The recovery sheet of a restic target: what sh and restic need to bring its files back.
import { join } from 'node:path'
import type { Target } from '../../contract.ts'
import { passedThrough } from '../../keys.ts'
import { exported, quoted, restoredTo, type Sheet, streamLines, top } from '../../recovery.ts'
import { credentialsOf, isSecretKey } from '../../secretkeys.ts'
import { quote } from '../../shell.ts'
import { targetTags } from '../../target.ts'

/** Lines without `#` are commands for sh with restic 0.14 or newer; they change nothing but the folder restored-NAME. Pure. */
export function recoverySheet(sheet: Sheet): string {
  const { target } = sheet
  const lines = [
    ...top(sheet, 'the repository is read and written with'),
    '# To get it back you need a machine with sh and restic 0.14 or newer, not kedge. Lines that begin with # explain, the others',
    "# are commands: type them one after the other, or run the whole page with 'sh -e' in an empty folder, where it puts everything",
    `# into ${restoredTo(target)}. Keep this page, and what it needs to open the repository, away from the machine it is for.`,
    '',
    '# 1. Where the repository is.',
    ...settings(sheet),
    '',
    '# 2. How to open it.',
    ...opening(sheet),
    '',
    '# 3. What is there: the newest is at the end.',
    `restic snapshots${tagged(target)}`,
    '',
    ...restoring(target),
    '',
    `# ${target.streams.length > 0 && target.paths.length > 0 ? 6 : 5}. Whether the repository is whole. With --read-data all of it is read.`,
    'restic check',
  ]
  return `${lines.join('\n')}\n`
}

const tagged = (target: Target, more = ''): string =>
  targetTags(target)
    .map((tag) => ` --tag ${quote(`${tag}${more}`)}`)
    .join('')

function settings({ target, secrets }: Sheet): string[] {
  const passed = Object.entries(target.env).filter(([key]) => passedThrough.restic.test(key) && key !== 'RESTIC_CACHE_DIR')
  const lines = passed.map(([key, value]) =>
    isSecretKey(key) && !secrets ? `# ${key} was set in target.env: it is secret, and not on this sheet` : `export ${key}=${quoted(value)}`,
  )
  const notes: Readonly<Record<string, string>> = {
    sftp: '# ssh must reach that host without a question: with the same key, and what ~/.ssh/config says of it.',
    rclone: '# rclone must know that remote: its configuration (rclone config file) is needed too.',
  }
  const repository = target.env.RESTIC_REPOSITORY ?? ''
  const folder = repository.startsWith('/')
    ? '# A folder on that machine: where its disk is mounted elsewhere, or it is a copy, change the path.'
    : undefined
  const note = folder ?? notes[repository.split(':')[0] ?? '']
  return note ? [note, ...lines] : lines
}

function opening({ target, secrets }: Sheet): string[] {
  if (secrets) {
    return ['# SECRET: whoever reads the following lines reads everything that was ever saved.', ...exported(secrets)]
  }
  const wanted = ['RESTIC_PASSWORD', ...credentialsOf(target.env.RESTIC_REPOSITORY ?? '')].join(', ')
  const from = (file: string, ...lines: string[]) => [
    `# The secrets (${wanted}) lay in the file below: put your copy of it there, or change the path.`,
    `secrets=${quoted(join(target.dir, file))}`,
    ...lines,
  ]
  switch (target.secret) {
    case 'gpg':
      return [
        ...from('secret.env.gpg'),
        '# gpg asks for its passphrase, or wants the secret key that it is encrypted to.',
        'set -a; eval "$(gpg --decrypt "$secrets")"; set +a',
      ]
    case 'file':
      return from('secret.env', 'set -a; . "$secrets"; set +a')
    case 'credential':
      return [
        '# Only the machine that sealed this file opens it. Where that machine is lost, so is the way below: then the password',
        `# must have been kept elsewhere, as with 'kedge recovery ${target.name} --with-secret'.`,
        ...from('secret.cred', `set -a; eval "$(systemd-creds decrypt --name=kedge-${target.name} "$secrets" -)"; set +a`),
      ]
    case 'command':
      return [
        `# The secrets (${wanted}) came from this command, which must work here:`,
        `set -a; eval "$(${target.env.SECRET_COMMAND ?? ''})"; set +a`,
      ]
    case 'none':
      return ['# The target has no secrets of its own: the password comes from where the settings above say, or restic asks for it.']
  }
}

function restoring(target: Target): string[] {
  const place = restoredTo(target)
  const several = target.streams.length > 0 && target.paths.length > 0
  // Each stream is a snapshot of its own, and so is a list of names: 'latest' would be one of them.
  const first = target.paths[0] !== undefined ? ` --path ${quote(target.paths[0])}` : ''
  const paths = [
    '# 4. The files of the newest snapshot, into a new folder; as root with their owners. In place of latest an id from the list will',
    "#    do. Where nothing may be written into the repository: with --no-lock. 'restic ls latest' lists what is in it.",
    `mkdir ${place} && restic restore latest${tagged(target)}${first} --target ${place}`,
  ]
  const streams = streamLines(target, (name) => `restic dump latest${tagged(target, `,stream:${name}`)} ${quote(`/${name}`)}`)
  const title = `# ${several ? 5 : 4}. What the streams wrote.`
  if (target.streams.length === 0) return paths
  return target.paths.length > 0 ? [...paths, '', title, ...streams] : [title, `mkdir ${place}`, ...streams]
}
