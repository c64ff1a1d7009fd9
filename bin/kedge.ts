// kedge: the dispatcher. `kedge verb …`, `kedge-verb …`, or a kedge-verb of somebody else's found in PATH.
import { existsSync, readdirSync, writeSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Declared } from '../lib/cli.ts'

declare const KEDGE_VERSION: string
// It is built to dist/kedge.cjs, the commands to dist/bin/.
const file = (verb: string) => join(__dirname, 'bin', `${verb}.cjs`)
const verbs = () =>
  readdirSync(join(__dirname, 'bin'))
    .map((name) => basename(name, '.cjs'))
    .sort()

async function main(argv: readonly string[]): Promise<void> {
  const called = basename(process.argv[1] ?? '', '.cjs')
  const [verb, rest] = called.startsWith('kedge-') ? [called.slice(6), argv] : [argv[0], argv.slice(1)]
  if (verb === undefined || verb === 'help' || verb === '--help' || verb === '-h') return overview(verb === undefined)
  if (verb === '--version' || verb === 'version') return write(`kedge ${KEDGE_VERSION}\n`, 0)
  if (/^[a-z]+$/.test(verb) && existsSync(file(verb))) return (await import('../lib/cli.ts')).execute(verb, load(verb), rest)
  return (await import('../lib/foreign.ts')).runForeign(verb, rest, verbs())
}

// The file's name is computed, so that the bundler leaves the require alone.
const load = (verb: string): Declared => require(file(verb)).default

function overview(misused: boolean): void {
  const rows = verbs().map((verb) => `  ${verb.padEnd(10)} ${load(verb).summary}\n`)
  write(
    `usage: kedge command [options] [operands]\n\n${rows.join('')}\nkedge command --help tells more; kedge --version\n`,
    misused ? 2 : 0,
  )
}

function write(text: string, status: number): void {
  process.exitCode = status
  try {
    writeSync(status === 0 ? 1 : 2, text) // process.stdout would load node:net, 3 ms
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error // the reader went away
  }
}

main(process.argv.slice(2))
