// A target of the rsync engine over one folder, another host that is this machine, and a run that is cut off.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import {
  done,
  type Machine,
  machine,
  type NewRsyncTarget,
  newRsyncTarget,
  type Rsync,
  rsyncs,
  start,
  type TargetOptions,
} from './harness.ts'

export type Made = NewRsyncTarget & { m: Machine; source: string }

/** A target with a store, over a folder `source` of the machine. */
export async function made(t: TestContext, options: TargetOptions = {}, rsync = rsyncs().at(-1) as Rsync): Promise<Made> {
  const m = machine(t, undefined, rsync)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  const target = newRsyncTarget(m, 'web1', { paths: [source], ...options, env: { RESERVE: '0', ...options.env } })
  await done(m, ['init', 'web1'])
  return { m, source, ...target }
}

/** The first part of an ssh without an sshd: drops the host, so that "$*" is what would run there. A shared connection only has to be there. */
export const hostDropped = `while [ $# -gt 0 ]; do case $1 in
  -o) case $2 in LocalCommand=*) local=\${2#LocalCommand=} ;; esac; shift 2 ;;
  -p|-i) shift 2 ;; -N) master=1; shift ;; -*) shift ;; *) break ;; esac; done
if [ "$master" ]; then sh -c "$local"; exec sleep 600; fi
shift`

/** Runs it here: rsync's whole protocol. */
export const plainSsh = `${hostDropped}\nexec sh -c "$*"`

/** Ends a slow run within a large file named big; then nothing is slow. */
export async function cutOff({ m, root, dir }: Pick<Made, 'm' | 'root' | 'dir'>): Promise<void> {
  const settings = path.join(dir, 'target.env')
  const text = fs.readFileSync(settings, 'utf8')
  fs.writeFileSync(settings, `${text}LIMIT_UP=2M\n`, { mode: 0o600 })
  const run = start(m, ['backup', 'web1'])
  const folder = path.join(root, 'incomplete')
  for (let i = 0; i < 1000 && !isWithin(folder); i++) await new Promise((resolve) => setTimeout(resolve, 20))
  run.child.kill('SIGTERM')
  assert.equal((await run.result).status, 143)
  fs.writeFileSync(settings, text, { mode: 0o600 })
}

function isWithin(folder: string): boolean {
  try {
    const names = (fs.readdirSync(folder, { recursive: true }) as string[]).filter((name) => /\/\.big\.\w{6}$/.test(name))
    return names.some((name) => fs.statSync(path.join(folder, name)).size > 1 << 20)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error // it changes while it is looked at
    return false
  }
}
