// Builds dist/: one small CommonJS file a command and a library file, seven bundles (core: what every command needs; base: what reads
// targets and their state; runs: what a run needs besides; restic: what its backup needs besides; store, removal, rsync: what all verbs,
// prune and forget, and the backup of rsync need besides), one file a package; all loaded when used; and the shells' completions.
// `--tests` bundles the tests into .build/test instead.
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { writeCompletions } from './install/completions/write.mjs'

const root = dirname(fileURLToPath(import.meta.url))
process.chdir(root)
const { version, dependencies } = JSON.parse(await readFile('package.json', 'utf8'))
const packages = Object.keys(dependencies).filter((name) => name !== 'minimist') // small, and every command needs it
const out = `.build/dist-${process.pid}`
/** Loaded by every command: one file instead of seven. */
const core = ['cli', 'failure', 'format', 'log', 'nearest', 'printer', 'shell'].map((name) => `lib/${name}`)
/** What these import is one file too: what nearly every command reads, and what a run needs besides. */
const reading = ['target', 'ledger', 'running'].map((name) => `lib/${name}`)
const runs = ['several', 'lifecycle', 'secret', 'source/names', 'source/stream', 'pattern', 'snapshots'].map((name) => `lib/${name}`)

/** Of the rsync engine, for nearly every verb. */
const inStore = ['store', 'snapshots', 'storelock', 'removal', 'audit', 'tool', 'publish', 'incomplete']

const sources = async (folder) => (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.ts')).sort()

async function tests() {
  await rm('.build/test', { recursive: true, force: true })
  const entries = (await sources('test')).filter((name) => name.endsWith('.test.ts')).map((name) => join('test', name))
  await build({
    entryPoints: entries,
    outdir: '.build/test',
    outbase: 'test',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    sourcemap: 'inline',
    logLevel: 'warning',
    define: { KEDGE_VERSION: JSON.stringify(version) },
  })
}

const sourceOf = (path) => relative(root, path).replace(/\.ts$/, '')

/** The library files that these import statically, themselves included; dynamic imports are loaded when used. */
async function closure(entries, without = []) {
  const { metafile } = await build({
    entryPoints: entries.map((name) => `${name}.ts`),
    bundle: true,
    write: false,
    metafile: true,
    outdir: '.build/closure',
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'silent',
  })
  const found = new Set()
  const visit = (name) => {
    if (found.has(name) || core.includes(name) || without.includes(name)) return
    found.add(name)
    for (const { path, kind, external } of metafile.inputs[`${name}.ts`].imports)
      if (kind === 'import-statement' && !external) visit(path.replace(/\.ts$/, ''))
  }
  entries.forEach(visit)
  return [...found].sort()
}

// An import becomes a require of the built file that holds it; `place` makes its path relative to the importer's in dist/. `inside`: what
// the file that is built holds itself; `bundles`: the files that hold several, each as a namespace.
const rooms = (bundles, inside = []) => ({
  name: 'rooms',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ path, resolveDir, kind }) => {
      const source = sourceOf(join(resolveDir, path))
      if (kind === 'entry-point' || inside.includes(source)) return undefined
      const bundle = Object.keys(bundles).find((name) => bundles[name].includes(source))
      return { path: `kedge-room:${bundle ? `${bundle}#${source}` : source}`, external: true }
    })
    onResolve({ filter: /^[a-z]/ }, ({ path }) =>
      packages.includes(path) ? { path: `kedge-room:vendor/${path}`, external: true } : undefined,
    )
  },
})

/** The name of a library file in the bundle that holds it. */
const roomOf = (source) => source.replace(/\W/g, '_')

const shared = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  minify: true,
  keepNames: false,
  outExtension: { '.js': '.cjs' },
  logLevel: 'warning',
  supported: { 'dynamic-import': false },
  define: { KEDGE_VERSION: JSON.stringify(version), 'import.meta.url': '__importMetaUrl' },
}

async function place(file) {
  const text = await readFile(file, 'utf8')
  const from = dirname(relative(out, file))
  const to = (name) => {
    const path = relative(from, `${name}.cjs`)
    return path.startsWith('.') ? path : `./${path}`
  }
  const placed = text
    // The helper's second argument asks for node's view of CommonJS, in which `default` is the whole module; dist/ has esbuild's.
    // A bundle's namespaces need no helper.
    .replace(/\w+\((require\("kedge-room:\w+#[\w/-]+"\)),1\)/g, '$1')
    .replace(/(\w+\(require\("kedge-room:[\w/-]+"\)),1\)/g, '$1)')
    .replace(/require\("kedge-room:(\w+)#([\w/-]+)"\)/g, (_, bundle, source) => `require("${to(bundle)}").${roomOf(source)}`)
    .replace(/"kedge-room:([\w/-]+)"/g, (_, name) => `"${to(name)}"`)
  if (placed.includes('kedge-room:')) throw new Error(`${file}: an import was not placed`)
  if (placed !== text) await writeFile(file, placed)
}

async function product() {
  await rm(out, { recursive: true, force: true })
  await mkdir(join(out, 'vendor'), { recursive: true })
  const base = await closure(reading)
  const needed = await closure(runs, base)
  const among = (names, ...others) =>
    closure(
      names.map((name) => `lib/engine/${name}`),
      [...base, ...needed, ...others.flat()],
    )
  const restic = await among(['restic/backup'])
  const store = await among(inStore.map((name) => `rsync/${name}`))
  const removal = await among(['rsync/forget', 'rsync/prune'], store)
  const rsync = await among(['rsync/backup'], store, removal)
  const bundles = { core, base, runs: needed, restic, store, removal, rsync }
  const held = [...Object.values(bundles).flat(), 'lib/contract', 'lib/rows'] // the last two are types only
  const lib = (await sources('lib')).map((name) => join('lib', name)).filter((name) => !held.includes(name.replace(/\.ts$/, '')))
  const bin = (await sources('bin')).filter((name) => name !== 'kedge.ts').map((name) => join('bin', name))
  await build({ ...shared, entryPoints: [...lib, ...bin], outdir: out, outbase: '.', plugins: [rooms(bundles)] })
  const banner = { js: '#!/usr/bin/env node' }
  await build({ ...shared, entryPoints: ['bin/kedge.ts'], outfile: join(out, 'kedge.cjs'), banner, plugins: [rooms(bundles)] })
  for (const [name, inside] of Object.entries(bundles)) {
    const contents = inside.map((source) => `export * as ${roomOf(source)} from './${source}.ts'`).join('\n')
    const stdin = { contents, resolveDir: root, loader: 'ts' }
    await build({ ...shared, stdin, outfile: join(out, `${name}.cjs`), plugins: [rooms(bundles, inside)] })
  }
  for (const name of packages) {
    await build({
      ...shared,
      stdin: { contents: `export * from '${name}'`, resolveDir: root },
      outfile: join(out, 'vendor', `${name}.cjs`),
      legalComments: 'eof', // openpgp is LGPL: its notice stays, and the file can be replaced
      banner: { js: 'const __importMetaUrl=require("url").pathToFileURL(__filename).href;' },
    })
  }
  for (const name of await readdir(out, { recursive: true }))
    if (name.endsWith('.cjs') && !name.startsWith('vendor')) await place(join(out, name))
  await chmod(join(out, 'kedge.cjs'), 0o755)
  await writeCompletions(join(root, out))
  // Between the two renames there is no dist/: a kedge in use is updated by `setup --update`, not by building over it.
  await rm(`${out}.old`, { recursive: true, force: true })
  await rename('dist', `${out}.old`).catch((error) => {
    if (error.code !== 'ENOENT') throw error
  })
  await rename(out, 'dist')
  await rm(`${out}.old`, { recursive: true, force: true })
}

await (process.argv.includes('--tests') ? tests() : product())
