// Stores for tests, with cheap keys. restic's init alone takes a second, so each is made once a build of the tests, by whichever file
// needs it first, and then copied.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { cheapen } from './cheap.ts'
import { type Machine, type NewTarget, restic, root } from './harness.ts'

const templates = path.join(root, '.build/test/stores')

/**
 * Gives the target a repository, as `restic init` does, and returns its ID; with the chunker parameters of another target's where one is
 * given. Two targets of the same name and password get the same repository, each on its own machine.
 */
export async function initStore(m: Machine, target: NewTarget, like?: NewTarget): Promise<string> {
  const origin = like ? fs.readFileSync(path.join(like.repository, 'config'), 'base64') : ''
  const parts = JSON.stringify([m.restic.version, target.name, target.password, origin])
  const template = path.join(templates, createHash('sha256').update(parts).digest('hex'))
  if (!fs.existsSync(template)) {
    const from = like && { RESTIC_FROM_REPOSITORY: like.repository, RESTIC_FROM_PASSWORD: like.password }
    await restic(m, target, ['init', '-q', ...(like ? ['--copy-chunker-params'] : [])], { ...(from && { env: from }) })
    cheapen(target.repository, target.password)
    const { id } = JSON.parse((await restic(m, target, ['cat', 'config', '--no-lock'])).stdout) as { id: string }
    keep(target.repository, id, template)
  }
  // Where another file was faster the repository just made gives way to that one's, so that a template is always what its users have.
  fs.rmSync(target.repository, { recursive: true, force: true })
  fs.cpSync(path.join(template, 'repository'), target.repository, { recursive: true })
  return fs.readFileSync(path.join(template, 'id'), 'utf8')
}

/** The template appears whole or not at all: other test files look for it at the same time. */
function keep(repository: string, id: string, template: string): void {
  fs.mkdirSync(templates, { recursive: true })
  const made = fs.mkdtempSync(`${template}.`)
  fs.cpSync(repository, path.join(made, 'repository'), { recursive: true })
  fs.writeFileSync(path.join(made, 'id'), id)
  try {
    fs.renameSync(made, template)
  } catch (error) {
    if (!fs.existsSync(template)) throw error
    fs.rmSync(made, { recursive: true })
  }
}

/** The same, and pins it. */
export async function makeStore(m: Machine, target: NewTarget, like?: NewTarget): Promise<void> {
  const id = await initStore(m, target, like)
  fs.appendFileSync(path.join(target.dir, 'target.env'), `STORE_ID=${id}\n`)
}
