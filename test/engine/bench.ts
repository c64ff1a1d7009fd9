// What the suites of the engines share: what a contract needs of an engine, and a machine with something to save.
import * as fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import type { RunRow, Snapshot } from '../../lib/rows.ts'
import { done, growTree, type Machine, type RunOptions, type TargetOptions } from '../harness.ts'

/** A target's name and folder. */
export type Made = { name: string; dir: string }

/** What a test of the contract needs of an engine. */
export type Bench<T extends Made> = {
  name: string
  machine: (t: TestContext) => Machine
  target: (machine: Machine, name: string, options?: TargetOptions) => T
  /** The source is another host's, which root reads there: no file is kept from it, and the store does not lie in it. */
  elsewhere?: boolean
  /** The folder that is the target's store. */
  place: (target: T) => string
  /** The settings and secrets of a second target in the same store. */
  sharing: (target: T) => Pick<TargetOptions, 'env' | 'secrets'>
  /** Locks that lie in the store. */
  locks: (machine: Machine, target: T) => Promise<number>
  /** Makes and pins a store that opens quickly, as init does, for many runs in little time. */
  store: (machine: Machine, target: T) => Promise<void>
  /** Makes a store that init made open quickly. */
  quicken?: (target: T) => void
  /** A lock in the store that keeps this verb out, held until the test's end. */
  held: { verb: string; hold: (machine: Machine, target: T) => Promise<void> }
  /** What a backup meets that cannot be opened, by its name: the status, and a target that has it, made from a good one. */
  faults: Readonly<Record<string, { status: number; options: (machine: Machine, good: T) => Pick<TargetOptions, 'env' | 'secrets'> }>>
}

export const rows = <T>(result: { rows: unknown[] }) => result.rows as T[]
export const runs = async (machine: Machine, name: string) => rows<RunRow>(await done(machine, ['history', name, '--json']))
export const snapshots = async (machine: Machine, name: string) => rows<Snapshot>(await done(machine, ['list', name, '--json']))

export type House<T> = { machine: Machine; source: string; target: T }

/** A machine with a tree, a target for it, and its store. With `tree` the store is made by init. */
export const houseOf =
  <T extends Made>({ machine: newMachine, target: newTarget, store, quicken }: Bench<T>) =>
  async (t: TestContext, options: TargetOptions & { tree?: boolean } = {}): Promise<House<T>> => {
    const machine = newMachine(t)
    const source = path.join(machine.dir, 'source')
    fs.mkdirSync(source)
    if (options.tree) growTree(source)
    else fs.writeFileSync(path.join(source, 'file'), 'some bytes\n')
    const target = newTarget(machine, 'web1', { paths: [source], ...options })
    if (options.tree) {
      await done(machine, ['init', 'web1'])
      quicken?.(target)
    } else await store(machine, target)
    return { machine, source, target }
  }

const nobody = 65534

/**
 * Gives all of the machine's folder to a user without root's rights, but the files named, and tells how to run kedge as that user. Its
 * tools may lie where only root goes, so that they are copied to where the machine's fakes are.
 */
export function asNobody(machine: Machine, ...but: string[]): RunOptions & { uid: number } {
  fs.chmodSync(machine.dir, 0o755)
  for (const [name, tool] of Object.entries({ restic: machine.restic, rsync: machine.rsync })) {
    const bin = path.join(machine.bin, name)
    if (!tool || fs.existsSync(bin)) continue
    fs.copyFileSync(tool.path, bin)
    fs.chmodSync(bin, 0o755)
  }
  const own = (file: string) => {
    if (but.includes(file)) return
    fs.lchownSync(file, nobody, nobody)
    if (fs.lstatSync(file).isDirectory()) for (const name of fs.readdirSync(file)) own(path.join(file, name))
  }
  own(machine.dir)
  return { uid: nobody }
}
