// STORE_ID in target.env: which store a target writes to.
import { readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunContext, Target } from './contract.ts'
import { setEnvKey } from './env.ts'
import { replaceFile } from './ledger.ts'

/** Where the file cannot be written (a git checkout, read-only /etc), the line to add is said and the run is a warning. */
export async function pinStore(target: Target, id: string, context: RunContext): Promise<void> {
  const file = join(target.dir, 'target.env')
  try {
    // The file itself where it is a link, into a git checkout perhaps; its mode stays.
    const real = await realpath(file)
    await replaceFile(real, setEnvKey(await readFile(real, 'utf8'), 'STORE_ID', id), (await stat(real)).mode & 0o777)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EROFS' && code !== 'EPERM') throw error
    context.warn(`cannot write '${file}': add the line STORE_ID=${id}`, 'partial')
  }
}
