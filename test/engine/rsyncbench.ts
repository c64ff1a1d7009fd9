// The rsync engine as the contract wants it: on a folder of this machine, or pulled from an sshd.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { done, type Machine, machine, type NewRsyncTarget, newRsyncTarget, type Rsync, start, type TargetOptions } from '../harness.ts'
import type { Sshd } from '../sshd.ts'
import type { Bench } from './bench.ts'

/** `server`: each target pulls from it. */
export function rsyncBench(version: Rsync, server?: Sshd): Bench<NewRsyncTarget> {
  const target = (house: Machine, name: string, options: TargetOptions = {}) =>
    newRsyncTarget(house, name, { ...options, env: { ...(server && pulled(house, server, version)), ...options.env } })
  return {
    name: `rsync ${version.version}${server ? ', pulled' : ''}`,
    machine: (t: TestContext) => machine(t, undefined, version),
    target,
    elsewhere: server !== undefined,
    place: ({ store }) => store,
    sharing: ({ store }) => ({ env: { STORE: store } }),
    locks: async (_, made) => locksOf(made).length,
    store: async (house, { name }) => void (await done(house, ['init', name])),
    held: { verb: 'backup', hold },
    faults: {
      'a missing store': { status: 10, options: ({ dir }) => ({ env: { STORE: `${dir}/missing`, STORE_ID: 'x' } }) },
      'an unreachable host': {
        status: 13,
        options: (_, { dir }) => ({
          env: { ...pinned(dir), SOURCE_HOST: '127.0.0.1', SOURCE_PORT: '9', CONNECT_TIMEOUT: '3s', RETRIES: '0' },
        }),
      },
    },
  }
}

/** Names of the store's locks that nobody has released: the last one stays, with that written in it. What is half made is swept later. */
export function locksOf({ root }: NewRsyncTarget): string[] {
  const dir = path.join(root, 'lock')
  const names = fs.existsSync(dir) ? fs.readdirSync(dir).filter((name) => !name.startsWith('.')) : []
  return names.filter((name) => !fs.readFileSync(path.join(dir, name), 'utf8').includes('\n{"released":'))
}

/** The settings of a target that pulls from the server, with the same rsync on both sides. */
export const pulled = (house: Machine, server: Sshd, version: Rsync): Record<string, string> => ({
  ...server.pulled(house),
  SOURCE_RSYNC: version.path,
})

/** STORE and STORE_ID of a target. */
function pinned(dir: string): Record<string, string> {
  const text = fs.readFileSync(path.join(dir, 'target.env'), 'utf8')
  const all = [...text.matchAll(/^(STORE|STORE_ID)='?([^'\n]+)/gm)].map(([, key = '', value = '']) => [key, value])
  assert.equal(all.length, 2, text)
  return Object.fromEntries(all)
}

/** Another machine, with folders of its own, that saves the same target to the same store, and takes its time. */
async function hold(house: Machine, { name, dir }: NewRsyncTarget): Promise<void> {
  const other = machine(house.t, undefined, house.rsync)
  const begun = path.join(other.dir, 'begun')
  newRsyncTarget(other, name, { env: pinned(dir), scripts: { 'streams/slow': `touch ${begun}; exec sleep 60` } })
  const run = start(other, ['backup', name])
  house.t.after(async () => {
    run.child.kill('SIGTERM')
    await run.result
  })
  while (!fs.existsSync(begun)) {
    assert.equal(run.child.exitCode, null, 'the other machine ended before it had begun')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
