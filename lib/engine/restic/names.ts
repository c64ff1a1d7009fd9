// A list of paths for restic: NUL-ended in a file of the state folder, since stdin may be something else's and argv is too short.
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Target } from '../../contract.ts'
import { stateDir } from '../../paths.ts'
import { exists } from '../../process.ts'

export async function withNames<T>(target: Target, names: readonly string[], use: (file: string) => Promise<T>): Promise<T> {
  const folder = join(stateDir(target.name), 'scratch')
  const file = join(folder, `names-${process.pid}`)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  for (const name of await readdir(folder)) {
    const [, pid] = /^names-(\d+)$/.exec(name) ?? []
    if (pid && !exists(Number(pid))) await rm(join(folder, name), { force: true }) // a killed run's
  }
  await writeFile(file, names.map((name) => `${name}\0`).join(''), { mode: 0o600 })
  try {
    return await use(file)
  } finally {
    await rm(file, { force: true })
  }
}
