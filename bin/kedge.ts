// kedge: the dispatcher. `kedge verb …`, `kedge-verb …`, or a kedge-verb of somebody else's found in PATH.
import { existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type Declared, execute } from '../lib/cli.ts'
import { nearest } from '../lib/nearest.ts'

declare const KEDGE_VERSION: string
const verbs = () =>
  readdirSync(__dirname)
    .map((file) => basename(file, '.cjs'))
    .filter((name) => name !== 'kedge')
    .sort()

async function main(argv: readonly string[]): Promise<void> {
  const called = basename(process.argv[1] ?? '', '.cjs')
  const [verb, rest] = called.startsWith('kedge-') ? [called.slice(6), argv] : [argv[0], argv.slice(1)]
  if (verb === undefined || verb === 'help' || verb === '--help' || verb === '-h') return overview(verb === undefined)
  if (verb === '--version' || verb === 'version') return write(`kedge ${KEDGE_VERSION}\n`, 0)
  if (/^[a-z]+$/.test(verb) && verb !== 'kedge' && existsSync(join(__dirname, `${verb}.cjs`))) return execute(verb, load(verb), rest)
  return (await import('../lib/foreign.ts')).runForeign(verb, rest, nearest(verb, verbs()))
}

// The file's name is computed, so that the bundler leaves the require alone.
const load = (verb: string): Declared => require(join(__dirname, `${verb}.cjs`)).default

function overview(misused: boolean): void {
  const rows = verbs().map((verb) => `  ${verb.padEnd(10)} ${load(verb).summary}\n`)
  write(`usage: kedge command [options] [operands]\n\n${rows.join('')}\nkedge command --help tells more; kedge --version\n`, misused ? 2 : 0)
}

function write(text: string, status: number): void {
  process.exitCode = status
  ;(status === 0 ? process.stdout : process.stderr).write(text)
}

main(process.argv.slice(2))
