// The rule between the floors: an import goes down, never up, and never from one engine to another.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { build } from 'esbuild'
import { root } from './harness.ts'

/** From the top. A file may import from its own floor only where the floor is named in `among`. */
const floors: readonly (readonly [string, RegExp])[] = [
  ['commands', /^bin\//],
  [
    'on top of runs',
    /^lib\/(aftercopy|console|doctor|newtarget|remove|rename|reseal|scheduler|secretcheck|secretedit|several|sshkey|timers?|unlock)(\.ts|\/)/,
  ],
  ['lifecycle', /^lib\/lifecycle(\.ts|\/)/],
  ['engine table', /^lib\/engine\.ts$/],
  ['engines', /^lib\/engine\//],
  ['sources', /^lib\/(source\/|preflight\.ts)/],
  ['the rest', /^lib\//],
]
const floorOf = (file: string) => floors.findIndex(([, pattern]) => pattern.test(file))
const engineOf = (file: string) => /^lib\/engine\/([^/.]+)/.exec(file)?.[1]

async function imports(): Promise<{ from: string; to: string }[]> {
  const entries = [...fs.readdirSync(path.join(root, 'bin')).map((name) => `bin/${name}`), 'lib/engine.ts']
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: entries,
    bundle: true,
    write: false,
    outdir: '.build/layers',
    platform: 'node',
    packages: 'external',
    metafile: true,
    format: 'esm',
  })
  return Object.entries(metafile.inputs).flatMap(([from, { imports }]) =>
    imports.filter(({ external }) => !external).map(({ path: to }) => ({ from, to })),
  )
}

test('an import goes down a floor or stays on it, and no engine imports another', async () => {
  const all = await imports()
  assert.ok(all.length > 100, 'the imports were found')
  const up = all.filter(({ from, to }) => floorOf(to) < floorOf(from))
  assert.deepEqual(up, [])
  const across = all.filter(({ from, to }) => engineOf(from) && engineOf(to) && engineOf(from) !== engineOf(to))
  assert.deepEqual(across, [])
  const commands = all.filter(({ from, to }) => from.startsWith('bin/') && to.startsWith('bin/'))
  assert.deepEqual(commands, [])
})

test('there is no cycle of imports', async () => {
  const next = new Map<string, string[]>()
  for (const { from, to } of await imports()) next.set(from, [...(next.get(from) ?? []), to])
  const done = new Set<string>()
  const visit = (file: string, trail: readonly string[]): void => {
    assert.ok(!trail.includes(file), `${[...trail, file].join(' -> ')}`)
    if (done.has(file)) return
    for (const to of next.get(file) ?? []) visit(to, [...trail, file])
    done.add(file)
  }
  for (const file of next.keys()) visit(file, [])
})

const sources = () =>
  ['bin', 'lib'].flatMap((folder) =>
    fs
      .readdirSync(path.join(root, folder), { recursive: true })
      .map((name) => path.join(folder, String(name)))
      .filter((name) => name.endsWith('.ts')),
  )

test('only child.ts starts processes, only env.ts reads the environment, only the command line exits and writes stdout', () => {
  const rules: readonly (readonly [RegExp, readonly string[]])[] = [
    [/node:child_process/, ['lib/child.ts']],
    [/process\.env\b/, ['lib/env.ts']],
    [/process\.exit\(/, ['lib/cli.ts']],
    [/process\.argv/, ['lib/cli.ts', 'bin/kedge.ts']],
    [/process\.stdout|writeSync\(1|console\./, ['lib/printer.ts']],
  ]
  for (const file of sources()) {
    const text = fs.readFileSync(path.join(root, file), 'utf8').replace(/\/\/.*|\/\*[\s\S]*?\*\//g, '')
    for (const [pattern, allowed] of rules) if (!allowed.includes(file)) assert.doesNotMatch(text, pattern, `${file} has ${pattern}`)
  }
})

test('a command is one file under 60 lines, a library file at most 300', () => {
  for (const file of sources()) {
    const lines = fs.readFileSync(path.join(root, file), 'utf8').split('\n').length - 1
    const most = file.startsWith('bin/') ? 60 : 300
    assert.ok(lines <= most, `${file} has ${lines} lines, at most ${most}`)
  }
})

test('docs/architecture.md names every library file, and none that is gone', () => {
  const page = fs.readFileSync(path.join(root, 'docs/architecture.md'), 'utf8')
  const named = [...page.matchAll(/^\| `(lib\/[^`]+)` \|/gm)].map(([, name]) => name).sort()
  assert.deepEqual(
    named,
    sources()
      .filter((name) => name.startsWith('lib/'))
      .sort(),
  )
})
