// Stores for tests, pinned, with cheap keys. restic's init alone takes a second, so each is made once a file, and then copied.
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { cheapen } from './cheap.ts'
import { type Machine, type NewTarget, restic } from './harness.ts'

const templates = fs.mkdtempSync(path.join(tmpdir(), 'kedge-stores-'))
process.on('exit', () => fs.rmSync(templates, { recursive: true, force: true }))

/** Gives the target a repository and pins it; with the chunker parameters of another target's where one is given. */
export async function makeStore(m: Machine, target: NewTarget, like?: NewTarget): Promise<void> {
  const template = path.join(templates, `${m.restic.version}-${target.name}-${like?.name ?? ''}`)
  if (!fs.existsSync(template)) {
    const from = like && { RESTIC_FROM_REPOSITORY: like.repository, RESTIC_FROM_PASSWORD: like.password }
    await restic(m, target, ['init', '-q', ...(like ? ['--copy-chunker-params'] : [])], { ...(from && { env: from }) })
    cheapen(target.repository, target.password)
    fs.cpSync(target.repository, template, { recursive: true })
  } else fs.cpSync(template, target.repository, { recursive: true })
  const { id } = JSON.parse((await restic(m, target, ['cat', 'config', '--no-lock'])).stdout) as { id: string }
  fs.appendFileSync(path.join(target.dir, 'target.env'), `STORE_ID=${id}\n`)
}
