// The files of a lock: NAME.1, NAME.2 …; the highest number counts. Each is linked into place complete, is only ever appended to
// (a child's group, `released`, `broken`), and is removed only by somebody who holds a higher one. So the highest number never
// falls, and who took a number on an old view of the folder sees a higher one and gives up. A stale lock is never removed in order
// to be taken: taking it is adding the next number, which one process can do. Nothing is renamed over a lock, since a reader of the
// folder may miss an entry that is replaced.
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Group, Identity } from './process.ts'

export type Holder = Identity & {
  run: string
  verb: string
  /** The target whose run it is, where that holds another one's lock. */
  of?: string
  /** RFC 3339. */
  at: string
  /** The process groups of its children: while one lives, the lock is held. */
  groups: readonly Group[]
}
export type Generation = {
  n: number
  text: string
  /** Undefined: torn by a power cut. */
  holder: Holder | undefined
  /** What the holder itself had found dead. */
  crashed: readonly Holder[]
  end: 'released' | 'broken' | undefined
  /** Seconds since it was last written. */
  age: number
}

/** Adds a line, even after one that a full disk cut short. */
export function append(descriptor: number, line: object): void {
  appendFileSync(descriptor, `\n${JSON.stringify(line)}\n`)
}

/**
 * Takes the number n: a descriptor to append with, or undefined when somebody was faster. `shared`: on a file system of a network other
 * machines see what is written only once it is flushed.
 */
export function add(dir: string, name: string, n: number, content: object, shared = false): number | undefined {
  const descriptor = place(dir, name, n, content, shared)
  if (descriptor === undefined) return undefined
  const numbers = numbersOf(dir, name)
  // While a folder is read, its highest entry may be followed and removed, and the reader see neither. Who removes it has removed
  // mine before, since lower numbers go first: so mine being there proves that the reading was true.
  if (numbers.some((other) => other > n) || fstatSync(descriptor).nlink === 0) {
    closeSync(descriptor)
    remove(dir, name, n)
    return undefined
  }
  for (const other of numbers) if (other < n) remove(dir, name, other)
  sweep(dir, name)
  return descriptor
}

function place(dir: string, name: string, n: number, content: object, shared: boolean): number | undefined {
  const draft = join(dir, `.${name}.${process.pid}.${randomBytes(6).toString('hex')}`)
  const descriptor = openSync(draft, 'ax', 0o644)
  try {
    appendFileSync(descriptor, `${JSON.stringify(content)}\n`)
    if (shared) fsyncSync(descriptor)
    linkSync(draft, join(dir, `${name}.${n}`))
    return descriptor
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // NFS: the answer to a link that was made may be lost, and the call be sent again.
    if (code === 'EEXIST' && fstatSync(descriptor).nlink > 1) return descriptor
    closeSync(descriptor)
    // ENOENT: the draft of a process that was stopped for long was swept.
    if (code !== 'EEXIST' && code !== 'ENOENT') throw error
    return undefined
  } finally {
    rmSync(draft, { force: true })
  }
}

// Drafts of processes that were killed between writing and linking.
function sweep(dir: string, name: string): void {
  for (const entry of readdirSync(dir).filter((entry) => entry.startsWith(`.${name}.`))) {
    const stat = statSync(join(dir, entry), { throwIfNoEntry: false })
    if (stat && Math.abs(Date.now() - stat.mtimeMs) > 60_000) rmSync(join(dir, entry), { force: true })
  }
}

function remove(dir: string, name: string, n: number): void {
  rmSync(join(dir, `${name}.${n}`), { force: true })
}

/** Ascending. */
function numbersOf(dir: string, name: string): number[] {
  const numbers = entriesOf(dir).flatMap((entry) => (entry.name === name ? [entry.n] : []))
  return numbers.sort((a, b) => a - b)
}

function entriesOf(dir: string): { name: string; n: number }[] {
  return (ifThere(() => readdirSync(dir)) ?? []).flatMap((entry) => {
    const [, name, n] = /^([\w-]+)\.([1-9]\d{0,14})$/.exec(entry) ?? []
    return name && n ? [{ name, n: Number(n) }] : []
  })
}

/** The current one; undefined before the first. */
export function highest(dir: string, name: string): Generation | undefined {
  for (;;) {
    const n = numbersOf(dir, name).at(-1)
    if (!n) return undefined
    const file = join(dir, `${name}.${n}`)
    const text = ifThere(() => readFileSync(file, 'utf8'))
    const stat = statSync(file, { throwIfNoEntry: false })
    if (text === undefined || !stat) continue
    return { n, text, age: Math.abs(Date.now() - stat.mtimeMs) / 1000, ...parse(text) }
  }
}

/** A descriptor to append with, or undefined when it is gone. */
export function reopen(dir: string, name: string, n: number): number | undefined {
  return ifThere(() => openSync(join(dir, `${name}.${n}`), constants.O_WRONLY | constants.O_APPEND))
}

/** The names of all locks in a folder, sorted. */
export function namesOf(dir: string): string[] {
  return [...new Set(entriesOf(dir).map(({ name }) => name))].sort()
}

function ifThere<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
}

function parse(text: string): Pick<Generation, 'holder' | 'crashed' | 'end'> {
  let first: (Holder & { crashed?: Holder[] }) | undefined
  let end: Generation['end']
  const groups: Group[] = []
  for (const line of text.split('\n')) {
    const value = parseLine(line)
    if (!value) continue
    if (isHolder(value)) first ??= value
    else if ('group' in value && isGroup(value.group)) groups.push(value.group)
    else if ('released' in value) end = 'released'
    else if ('broken' in value) end ??= 'broken'
  }
  if (!first) return { holder: undefined, crashed: [], end }
  const { crashed = [], ...holder } = first
  return { holder: { ...holder, groups }, crashed, end }
}

// A damaged number must not reach kill(2): 0, -0 and -1 mean others.
export const isPid = (value: unknown, least: number) => Number.isInteger(value) && (value as number) >= least
const isHolder = (value: object): value is Holder => 'run' in value && 'host' in value && 'pid' in value && isPid(value.pid, 1)
const isGroup = (value: unknown): value is Group => typeof value === 'object' && value !== null && 'pgid' in value && isPid(value.pgid, 2)

function parseLine(line: string): object | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return undefined
  }
}
