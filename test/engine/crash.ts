// The scene of a crash: a store with two published snapshots, a source that has changed since, and what has to hold afterwards.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { hardTree } from '../hardtree.ts'
import {
  done,
  fake,
  type Machine,
  machine,
  type NewRsyncTarget,
  newRsyncTarget,
  type Rsync,
  type RunOptions,
  type Started,
  sameTree,
} from '../harness.ts'
import { smallFs } from '../smallfs.ts'
import type { Sshd } from '../sshd.ts'
import { treeFacts } from '../tree.ts'
import { asNobody } from './bench.ts'
import { locksOf, pulled } from './rsyncbench.ts'

export type Scene = {
  machine: Machine
  source: string
  target: NewRsyncTarget
  /** Each published snapshot: all facts of its folder. */
  before: Record<string, string>
  /** How kedge is run; what the test made since belongs to that user then. */
  as: () => RunOptions
  /** Store and state as they were before the crash. */
  reset: () => void
}
export type SceneOptions = {
  server?: Sshd
  env?: Record<string, string>
  /** A file system of its own for the store. */
  room?: { bytes: number; inodes: number }
  /** Without the hard tree. */
  easy?: boolean
  /** kedge runs as an ordinary user. */
  nobody?: boolean
}

/** How many files lie in source/bulk; all of them are sent anew by the run that crashes. */
export const bulk = 100

/** rsync is slowed down until `recovers`, so that there is something to interrupt. */
export async function scene(t: TestContext, rsync: Rsync, options: SceneOptions = {}): Promise<Scene> {
  const room = options.room && (await smallFs(t, options.room))
  const m = machine(t, undefined, rsync)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  if (options.easy) fs.writeFileSync(path.join(source, 'a.txt'), 'alpha\n')
  else hardTree(source)
  fs.mkdirSync(path.join(source, 'bulk'))
  write(source, 'first')
  const env = {
    ...(options.server && pulled(m, options.server, rsync)),
    ...(room && { STORE: path.join(room.dir, 'store') }),
    ...options.env,
  }
  const target = newRsyncTarget(m, 'web1', { paths: [source], env })
  const as = () => (options.nobody ? asNobody(m) : {})
  await done(m, ['init', 'web1'], as())
  await done(m, ['backup', 'web1'], as())
  fs.writeFileSync(path.join(source, 'new'), 'new\n')
  fs.chmodSync(path.join(source, 'bulk/f1'), 0o640)
  await done(m, ['backup', 'web1'], as())
  // What is linked to the older snapshots, and has another mode or owner now, is what a careless resume would change there.
  fs.chmodSync(path.join(source, 'a.txt'), 0o600)
  fs.rmSync(path.join(source, 'new'))
  write(source, 'third')
  const real = options.nobody ? path.join(m.bin, 'rsync-itself') : rsync.path
  if (options.nobody) fs.renameSync(path.join(m.bin, 'rsync'), real)
  const slow = path.join(m.dir, 'slow')
  fake(m.bin, 'rsync', `[ -e ${slow} ] && exec ${real} --bwlimit=150 "$@"\nexec ${real} "$@"`)
  fs.writeFileSync(slow, '')
  const kept = path.join(m.dir, 'kept')
  fs.mkdirSync(kept)
  const stand = { store: target.store, state: m.state }
  for (const [name, dir] of Object.entries(stand)) if (!room) execFileSync('cp', ['-a', dir, path.join(kept, name)])
  return {
    machine: m,
    source,
    target,
    before: published(target),
    as,
    reset() {
      fs.writeFileSync(slow, '')
      for (const [name, dir] of Object.entries(stand)) {
        fs.rmSync(dir, { recursive: true, force: true })
        execFileSync('cp', ['-a', path.join(kept, name), dir])
      }
    },
  }
}

function write(source: string, what: string): void {
  for (let i = 0; i < bulk; i++) fs.writeFileSync(path.join(source, `bulk/f${i}`), `${what} ${i}\n`.repeat(1000))
}

/** All facts of what is published. */
export function published({ root }: NewRsyncTarget): Record<string, string> {
  const facts: Record<string, string> = {}
  for (const id of fs.readdirSync(path.join(root, 'snapshots')))
    for (const [name, text] of Object.entries(treeFacts(path.join(root, 'snapshots', id)))) facts[`${id}/${name}`] = text
  return facts
}

/** No snapshot is altered, and kedge finds nothing wrong; the next run completes, and its tree is the source's. */
export async function recovers({ machine: m, source, target, before, as }: Scene): Promise<void> {
  unaltered(target, before)
  fs.rmSync(path.join(m.dir, 'slow'), { force: true })
  await done(m, ['check', 'web1', '--wait', '60s'], as())
  await done(m, ['backup', 'web1', '--wait', '60s'], as())
  unaltered(target, before)
  const own = as().uid === undefined
  if (!own) await done(m, ['restore', 'web1', '--to', path.join(m.dir, 'restored')], as())
  sameTree(path.join(own ? path.join(target.root, 'latest/tree') : path.join(m.dir, 'restored'), source), source)
  for (const folder of ['incomplete', 'deleting']) assert.deepEqual(namesIn(path.join(target.root, folder)), [], `left in ${folder}`)
  const all = fs.readdirSync(target.root, { recursive: true, encoding: 'latin1' })
  assert.deepEqual(
    [...locksOf(target), ...all.filter((name) => /\.new$|\/\.kedge-partial|^snapshots\/[^/]+\/partial$|\/\.f\d+\./.test(name))],
    [],
  )
  assert.deepEqual(processes(m), [])
}

export function unaltered(target: NewRsyncTarget, before: Record<string, string>): void {
  const now = published(target)
  const altered = Object.keys(before).filter((name) => now[name] !== before[name])
  assert.deepEqual(
    altered.map((name) => [name, now[name]]),
    altered.map((name) => [name, before[name]]),
    'a published snapshot is altered',
  )
}

/** Processes that work on something of the machine's folder. */
export function processes({ dir }: Machine): string[] {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,stat=,args=']).toString().split('\n')
  return lines.filter((line) => line.includes(dir) && !/^\s*\d+ Z/.test(line))
}

/** Waits until so many names lie in the bulk folder of the unfinished snapshot; false where the run ends before. */
export async function reached({ source, target }: Scene, run: Started, count: number): Promise<boolean> {
  const incomplete = path.join(target.root, 'incomplete')
  while (run.child.exitCode === null) {
    if (namesIn(incomplete).some((id) => namesIn(path.join(incomplete, id, 'tree', source, 'bulk')).length >= count)) return true
    await new Promise((resolve) => setTimeout(resolve, 10)) // a file takes longer
  }
  return false
}

function namesIn(dir: string): string[] {
  try {
    return fs.readdirSync(dir)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
