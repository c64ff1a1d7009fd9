// A list of paths from a file or from stdin.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Failure } from '../failure.ts'

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  ENOTDIR: 'no such file',
  EISDIR: 'it is a folder',
  EACCES: 'permission denied',
}

/**
 * Absolute paths without '.', '..' and a slash at the end, in order, each once; relative ones count from the caller's folder. `file` '-' is
 * stdin. rsync would take what follows '/./' for the path in the snapshot.
 */
export async function readNames(file: string, nul: boolean): Promise<string[]> {
  let bytes: Buffer
  try {
    bytes = readFileSync(file === '-' ? 0 : file)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new Failure('misuse', `cannot read names from '${file}': ${reasons[code ?? ''] ?? message}`, { cause: error })
  }
  const text = bytes.toString('utf8')
  if (Buffer.compare(Buffer.from(text), bytes) !== 0) throw new Failure('misuse', `cannot read names from '${file}': not UTF-8`)
  if (!nul && text.includes('\0'))
    throw new Failure('misuse', `cannot read names from '${file}': a name holds a NUL`, { hint: 'is -0 missing?' })
  const names = text.split(nul ? '\0' : '\n').filter((name) => name !== '')
  if (names.length === 0) throw new Failure('misuse', `no names in '${file}'`, { hint: 'nothing would be saved' })
  return [...new Set(names.map((name) => resolve(name)))]
}
