// What was removed from a target's folder, when, why and by whom: audit.ndjson beside the snapshots. It goes with the store and outlives them.
import { closeSync, fsyncSync, openSync, readSync, statSync, writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import type { RunContext } from '../../contract.ts'
import type { Removed } from '../../rows/house.ts'

export type Removal = Omit<Removed, 'kind' | 'target'>

export const auditOf = (root: string): string => join(root, 'audit.ndjson')

/** Adds a line in one write, and has it on the disk when it returns: the removal comes after. */
export function note(root: string, removal: Omit<Removal, 'time' | 'by' | 'run'>, context: RunContext): void {
  const line: Removal = { time: new Date().toISOString(), ...removal, by: `${user()}@${hostname()}`, run: context.run }
  const file = openSync(auditOf(root), 'a+', 0o600)
  try {
    writeSync(file, `${endsInLine(file, statSync(auditOf(root)).size) ? '' : '\n'}${JSON.stringify(line)}\n`)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** A uid may be nobody's in passwd: a container's, or one that setpriv took. */
function user(): string {
  try {
    return userInfo().username
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SYSTEM_ERROR') throw error
    return `uid:${process.geteuid?.()}`
  }
}

function endsInLine(file: number, size: number): boolean {
  const end = Buffer.alloc(1)
  if (size > 0) readSync(file, end, 0, 1, size - 1)
  return size === 0 || end[0] === 10
}

/** The removals, the newest first; `torn` gets a line that cannot be read, as a power cut leaves. None where there is no audit. */
export async function readAudit(root: string, torn: (line: string) => void): Promise<Removal[]> {
  let text: string
  try {
    text = await readFile(auditOf(root), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const found: Removal[] = []
  for (const line of text.split('\n')) {
    if (line === '') continue
    const removal = parse(line)
    if (removal) found.push(removal)
    else torn(line)
  }
  return found.reverse()
}

function parse(line: string): Removal | undefined {
  try {
    const value = JSON.parse(line) as Partial<Removal>
    return typeof value.id === 'string' && typeof value.time === 'string' ? (value as Removal) : undefined
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return undefined
  }
}
