// rsync's targets as they look from outside of the verbs.
import { join, resolve } from 'node:path'
import { findInPath } from '../../executable.ts'
import { Failure } from '../../failure.ts'
import { quote } from '../../shell.ts'
import type { Traits } from '../../traits.ts'
import { recoverySheet } from './recovery.ts'
import { ownersOf, rootOf } from './store.ts'
import { installed, unfit } from './version.ts'

const traits: Traits = {
  storeName: ({ env }) => env.STORE ?? '',
  storeFolder: ({ env }) => env.STORE || undefined,
  storeByHand: (target) => `cat ${quote(join(target.env.STORE ?? '', 'kedge-store.json'))}; ls -l ${quote(join(rootOf(target), 'lock'))}`,
  markOf: (target, name) => `the folder '${rootOf(target, name)}'`,
  toInstall: 'install rsync',
  versionByHand: 'rsync --version',
  needsFuse: false,
  async tool() {
    const path = findInPath('rsync')
    const found = path && (await installed())
    if (!found) return undefined
    const why = unfit(found)
    return { path, text: found.text, ...(why && { odd: { level: 'blocked' as const, ...why } }) }
  },
  password: undefined,
  keepsOwners: true,
  lacking: () => ({ missing: [], unset: [], text: 'none opens the store: it has no password' }),
  cacheVariable: undefined,
  context: (target) => ({
    // A second store's own name has no folder: it holds those of the targets whose copies lie in it.
    set: { STORE: target.env.STORE ?? '', KEDGE_SNAPSHOTS: join(rootOf(target, ownersOf(target)[0]), 'snapshots') },
    without: [],
  }),
  place: {
    option: 'store',
    question: 'the folder that is to hold the snapshots, best on a disk of its own',
    settings(text, cwd) {
      if (text === '' || /[\0\n\r]/.test(text)) throw new Failure('misuse', `not a folder: '${text}'`)
      if (/^[^/]*:/.test(text))
        throw new Failure('misuse', `not a folder of this machine: '${text}'`, {
          hint: 'rsync keeps snapshots here; --source-host names the host that they are pulled from',
        })
      return { STORE: resolve(cwd, text) }
    },
  },
  async suspects(target, context) {
    const { suspectsOf } = await import('./snapshots.ts')
    return await suspectsOf(target, context)
  },
  sheet: recoverySheet,
}
export default traits
