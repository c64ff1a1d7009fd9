// STORE_ID in target.env: which store a target writes to.
import { join } from 'node:path'
import type { RunContext, Target } from './contract.ts'
import { setEnvKey } from './env.ts'
import { Failure } from './failure.ts'
import { changeText } from './inplace.ts'
import type { CommandLine } from './rows.ts'
import { quote } from './shell.ts'

/** Where the file cannot be written (another's, read-only /etc, a mount of its own), the line to add is said and the run is a warning. */
export async function pinStore(target: Target, id: string, context: RunContext): Promise<void> {
  const file = join(target.dir, 'target.env')
  try {
    // The file itself where it is a link, into a git checkout perhaps.
    await changeText(file, (text) => setEnvKey(text, 'STORE_ID', id))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const refused = error instanceof Failure && error.class === 'permission'
    if (!refused && code !== 'EACCES' && code !== 'EROFS' && code !== 'EPERM') throw error
    context.warn(`cannot write '${file}': add the line STORE_ID=${id}`, 'partial')
  }
}

/** The pin by hand. `shown`: the command that prints the JSON with the store's id. */
export function* pinnedByHand(target: Target, shown: string): Generator<CommandLine> {
  const [file, fresh] = [quote(join(target.dir, 'target.env')), quote(join(target.dir, '.target.env.new'))]
  const id = `sed -n 's/.*"id": *"\\([0-9a-f]*\\)".*/\\1/p'`
  yield { kind: 'command', command: `id=$(${shown} | ${id})` }
  const text = `{ grep -v '^STORE_ID=' ${file}; echo "STORE_ID=\${id:?no store}"; }`
  yield { kind: 'command', command: `cp -p ${file} ${fresh} && ${text} > ${fresh} && mv ${fresh} ${file}` }
}
