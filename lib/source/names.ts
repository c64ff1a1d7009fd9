// A list of paths from a file or from stdin.
import { readFileSync } from 'node:fs'
import { isAbsolute, resolve } from 'node:path'
import { Failure } from '../failure.ts'

/** Absolute paths, in order, each once; relative ones count from the caller's folder. `file` '-' is stdin. */
export async function readNames(file: string, nul: boolean): Promise<string[]> {
  let bytes: Buffer
  try {
    bytes = readFileSync(file === '-' ? 0 : file)
  } catch (error) {
    throw new Failure('misuse', `cannot read names from '${file}': ${(error as Error).message}`, { cause: error })
  }
  const text = bytes.toString('utf8')
  if (Buffer.compare(Buffer.from(text), bytes) !== 0) throw new Failure('misuse', `cannot read names from '${file}': not UTF-8`)
  const names = text.split(nul ? '\0' : '\n').filter((name) => name !== '')
  if (names.length === 0) throw new Failure('misuse', `no names in '${file}'`, { hint: 'nothing would be saved' })
  return [...new Set(names.map((name) => (isAbsolute(name) ? name : resolve(name))))]
}
