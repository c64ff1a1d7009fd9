// How this kedge is started by what outlives it: units, crontabs, a scheduler that runs on through an update.
import { readFile, realpath } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { houseDir } from './paths.ts'

const program = () => join(houseDir(), 'dist', 'kedge.cjs')

/** This very kedge, for a child that ends before it. */
export const ownCommand = (): string[] => [process.execPath, program()]

/** Where setup puts the command: the machine's, below a prefix (PREFIX/lib/kedge/VERSION is the house then), a user's. */
const places = () => ['/usr/local/bin/kedge', join(houseDir(), '../../../bin/kedge'), join(homedir(), '.local/bin/kedge')]

/** The command that starts this kedge without PATH: where it was linked, so that an update changes it; else node and the program. */
export async function kedgeCommand(): Promise<string[]> {
  for (const place of places()) if (await startsThis(place)) return [place]
  return ownCommand()
}

async function startsThis(command: string): Promise<boolean> {
  const real = await resolved(program())
  const there = await resolved(command)
  if (there === undefined) return false
  if (there === real) return true
  // A wrapper that setup wrote names the program.
  const text = await readFile(there, 'utf8').catch(() => '')
  const named = [...text.matchAll(/\/[^'"\n]*kedge\.cjs/g)].map(([path]) => path)
  return (await Promise.all(named.map(resolved))).some((path) => path === real)
}

const resolved = async (path: string): Promise<string | undefined> => await realpath(path).catch(() => undefined)
