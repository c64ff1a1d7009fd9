// restic's targets as they look from outside of the verbs.
import { resolve } from 'node:path'
import { Failure } from '../../failure.ts'
import { credentialsOf } from '../../secretkeys.ts'
import type { Traits } from '../../traits.ts'
import { installed, wantedVersions } from './installed.ts'
import { recoverySheet } from './recovery.ts'
import { localRepository, repository } from './tool.ts'
import { compare } from './version.ts'

const passwords = ['RESTIC_PASSWORD', 'RESTIC_PASSWORD_FILE', 'RESTIC_PASSWORD_COMMAND']

const traits: Traits = {
  storeName: (target) => repository(target) || (target.env.RESTIC_REPOSITORY_FILE ?? ''),
  storeFolder: localRepository,
  storeByHand: () => 'restic --no-cache cat config --no-lock; restic --no-cache list locks --no-lock',
  markOf: (_, name) => `the tag kedge:${name}`,
  toInstall: 'install restic, or run ./setup',
  versionByHand: 'restic version',
  needsFuse: true,
  async tool() {
    const { least, good } = wantedVersions
    const found = await installed()
    if (!found) return undefined
    const text = `${found.text} at '${found.path}'`
    if (compare(found.version, least) < 0)
      return { ...found, odd: { level: 'blocked', text: `${text} is older than ${least.join('.')}`, remedy: 'install a newer restic' } }
    if (compare(found.version, good) >= 0) return found
    return {
      ...found,
      odd: {
        level: 'warning',
        text: `${text}: kedge knows its ways, but a newer one says more`,
        remedy: `${good.join('.')} or newer gives each failure a status, and ends cleanly on SIGTERM`,
      },
    }
  },
  password: 'RESTIC_PASSWORD',
  keepsOwners: false,
  lacking(all) {
    const store = all.RESTIC_REPOSITORY ?? ''
    // Each service has other ways too (a role of the machine, a file): what is not set may be meant.
    return {
      missing: passwords.some((key) => all[key]) ? [] : ['RESTIC_PASSWORD'],
      unset: credentialsOf(store).filter((key) => !all[key]),
      text: `all that '${store.split(':')[0] || 'the store'}' wants are there`,
    }
  },
  cacheVariable: 'RESTIC_CACHE_DIR',
  // restic takes the first that is set: command, file, password.
  context: (_, secrets) => ({ set: {}, without: secrets.RESTIC_PASSWORD === undefined ? [] : passwords.slice(1) }),
  place: {
    option: 'repo',
    question: 'the repository (a folder, sftp:USER@HOST:PATH, s3:…, rest:https://…)',
    settings: (text, cwd) => ({ RESTIC_REPOSITORY: repositoryOf(text, cwd) }),
  },
  sheet: recoverySheet,
}
export default traits

/** A repository as restic names it; a folder on this machine is made absolute. Failure 'misuse' where it holds a password. */
export function repositoryOf(text: string, cwd: string): string {
  const misuse = (message: string, hint?: string) => new Failure('misuse', message, { hint })
  if (text === '' || /[\0\n]/.test(text)) throw misuse(`not a repository: '${text}'`)
  if (/\/\/[^/@]*:[^/@]*@/.test(text)) {
    const hint = 'leave it out, and give RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD with --secrets-fd N (kedge-target(5) says more)'
    throw misuse('refusing the repository: it holds a password, which others see in the arguments and in target.env', hint)
  }
  if (/^(sftp|s3|rest|b2|azure|gs|swift|rclone):/.test(text)) return text
  if (/^[a-z0-9]{2,}:(?!\/[^/])/.test(text) && !text.startsWith('local:')) {
    throw misuse(`not a repository: '${text}'`, 'a folder, or sftp: s3: rest: b2: azure: gs: swift: rclone: and a place')
  }
  return resolve(cwd, text.replace(/^local:/, ''))
}
