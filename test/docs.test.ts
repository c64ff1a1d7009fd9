// The manual and the commands say the same: pages, options, operands, summaries, statuses, guards, what the README names.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { test } from 'node:test'
import type { Command } from '../lib/cli.ts'
import { exitStatuses } from '../lib/failure.ts'
import { guards } from '../lib/guard.ts'
import { dist, root } from './harness.ts'

const docs = path.join(root, 'docs')
const load = createRequire(path.join(dist, 'kedge.cjs'))
const commands = new Map(
  fs
    .readdirSync(path.join(root, 'bin'))
    .map((name) => name.replace(/\.ts$/, ''))
    .filter((verb) => verb !== 'kedge')
    .map((verb) => [verb, load(path.join(dist, 'bin', `${verb}.cjs`)).default as Command]),
)
const pageOf = (verb: string) => path.join(docs, `kedge-${verb}.1`)
const documented = [...commands].filter(([verb]) => fs.existsSync(pageOf(verb)))
const source = (verb: string) => fs.readFileSync(pageOf(verb), 'utf8')
const pages = () => fs.readdirSync(docs).filter((name) => /\.\d$/.test(name))

function mandoc(args: readonly string[]): string {
  const { error, stdout, stderr } = spawnSync('mandoc', args, { cwd: docs, encoding: 'utf8' })
  assert.equal(error, undefined, `mandoc is needed: ${error?.message}`)
  return `${stdout}${stderr}`
}

/** kedge(1) as it is read, each paragraph and list item on one line. */
const manual = () =>
  mandoc(['-Tascii', '-Owidth=1000', 'kedge.1'])
    .replace(/.[\b]/g, '') // what is struck over to be bold or underlined
    .split('\n')
    .map((line) => line.trim().replace(/\s+/g, ' '))

test('every command has a page, and every page of a command a command', () => {
  const found = pages()
    .map((name) => /^kedge-(.+)\.1$/.exec(name)?.[1])
    .filter((verb) => verb !== undefined)
  assert.deepEqual(found.sort(), [...commands.keys()].sort())
})

type Described = { name: string; short: string | undefined; value: string | undefined }

/** The options that a page lists: `.It Fl i , Fl -ignore-case`, `.It Fl -to Ar DIR`, `.It Fl -out Ns Op = Ns Ar FILE`. */
function described(page: string): Described[] {
  const lines = page.split('\n').filter((line) => /^\.It (Fl|Xo Fl) /.test(line))
  return lines.map((line) => {
    const flags = [...line.matchAll(/\bFl (\S+)/g)].map(([, flag = '']) => flag)
    const long = flags.find((flag) => flag.startsWith('-'))
    assert.ok(long, `no long option in '${line}'`)
    const [, value] = /\bAr (.+)$/.exec(line) ?? []
    return { name: long.slice(1), short: flags.find((flag) => !flag.startsWith('-')), value: value?.replace(/ (Ns|Ar)\b| /g, '') }
  })
}

test("a page lists exactly its command's own options, with their letters and values", () => {
  for (const [verb, { options }] of documented) {
    const declared = Object.entries(options).map(([name, { short, value }]) => ({ name, short, value }))
    const byName = (a: Described, b: Described) => (a.name < b.name ? -1 : 1)
    assert.deepEqual(described(source(verb)).sort(byName), declared.sort(byName), `docs/kedge-${verb}.1`)
  }
})

test('the synopsis of a page names the command, its operands and each of its own options', () => {
  for (const [verb, { operands, options }] of documented) {
    const [, synopsis = ''] = /\.Sh SYNOPSIS\n([\s\S]*?)\.Sh /.exec(source(verb)) ?? []
    assert.match(synopsis, new RegExp(`^\\.Nm kedge ${verb}$`, 'm'), `docs/kedge-${verb}.1`)
    const words = new Set(synopsis.split(/\s+/))
    for (const operand of operands.match(/[\w-]+/g) ?? []) assert.ok(words.has(operand), `docs/kedge-${verb}.1 has no operand '${operand}'`)
    for (const [name, { short }] of Object.entries(options))
      assert.ok(words.has(`-${name}`) || (short && words.has(short)), `the synopsis of docs/kedge-${verb}.1 has no option '${name}'`)
  }
})

test('a page of a command that changes something shows -n, and no other page does', () => {
  for (const [verb, { changes }] of documented)
    assert.equal(/\.Op Fl n$/m.test(source(verb)), changes === true, `docs/kedge-${verb}.1: -n in the synopsis`)
})

test('what a page refers to exists', () => {
  const known = new Set(pages())
  const missing = pages().flatMap((page) =>
    [...fs.readFileSync(path.join(docs, page), 'utf8').matchAll(/\bXr (kedge\S*) (\d)/g)]
      .filter(([, name, section]) => !known.has(`${name}.${section}`))
      .map(([, name, section]) => `${page}: ${name}(${section})`),
  )
  assert.deepEqual(missing, [])
})

test('mandoc finds no fault in the pages', () => {
  // Revision marks and OpenBSD's own dates are not used here; which manuals are installed is the machine's matter.
  const harmless = /RCS id|Mdocdate|referenced manual not found|mandoc\.db/
  const faults = mandoc(['-Tlint', '-Wopenbsd', ...pages()]).split('\n')
  assert.deepEqual(
    faults.filter((line) => line && !harmless.test(line)),
    [],
  )
})

test('kedge(1) lists every command with its summary, every exit status and every guard', () => {
  const lines = manual()
  const wanted = [
    ...[...commands].map(([verb, { summary }]) => `kedge-${verb}(1) ${summary}`),
    ...exitStatuses.map(([status, meaning]) => `${status} ${meaning}`),
    ...Object.entries(guards).map(([name, meaning]) => `${name} ${meaning}`),
  ]
  assert.deepEqual(
    wanted.filter((line) => !lines.includes(line)),
    [],
  )
})

test('kedge(1) lists the options that commands share', async () => {
  const { optionsOf } = await import('../lib/cli.ts')
  const all = { summary: '', operands: '', options: {}, columns: {}, changes: true, locks: true, opens: true } as const
  const shared = Object.entries(optionsOf(all)).map(([name, { short, value }]) => ({ name, short, value }))
  const byName = (a: Described, b: Described) => (a.name < b.name ? -1 : 1)
  assert.deepEqual(described(fs.readFileSync(path.join(docs, 'kedge.1'), 'utf8')).sort(byName), shared.sort(byName))
})

test('the README names every command', () => {
  const text = fs.readFileSync(path.join(root, 'README.md'), 'utf8')
  assert.deepEqual(
    [...commands.keys()].filter((verb) => !new RegExp(`\`(kedge )?${verb}\\b|kedge ${verb}\\b`).test(text)),
    [],
  )
})
