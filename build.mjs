// Builds dist/: one small CommonJS file a command and a library file, one core (what every command needs), one file a
// package, loaded when used. `--tests` bundles the tests into .build/test instead.
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = dirname(fileURLToPath(import.meta.url))
process.chdir(root)
const { version, dependencies } = JSON.parse(await readFile('package.json', 'utf8'))
/** Loaded by every command: one file instead of seven. */
const core = ['cli', 'failure', 'format', 'log', 'nearest', 'printer', 'shell']
const packages = Object.keys(dependencies)
const out = `.build/dist-${process.pid}`

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

// An import of a library file becomes a require of its built file, relative to the importer's place in dist/.
const rooms = {
  name: 'rooms',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ path, resolveDir, kind }) => {
      if (kind === 'entry-point') return undefined
      const source = relative(root, join(resolveDir, path)).replace(/\.ts$/, '')
      const isCore = core.includes(source.replace(/^lib\//, '')) && source.startsWith('lib/')
      return { path: `kedge-room:${isCore ? 'core' : source}`, external: true }
    })
    onResolve({ filter: /^[a-z]/ }, ({ path }) =>
      packages.includes(path) ? { path: `kedge-room:vendor/${path}`, external: true } : undefined,
    )
  },
}

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
  // The helper's second argument asks for node's view of CommonJS, in which `default` is the whole module; dist/ has esbuild's.
  const plain = text.replace(/(\w+\(require\("kedge-room:[\w/-]+"\)),1\)/g, '$1)')
  const placed = plain.replace(/(["'`])kedge-room:([\w/-]+)\1/g, (_, quote, name) => {
    const to = relative(from, `${name}.cjs`)
    return `${quote}${to.startsWith('.') ? to : `./${to}`}${quote}`
  })
  if (placed !== text) await writeFile(file, placed)
}

async function product() {
  await rm(out, { recursive: true, force: true })
  await mkdir(join(out, 'vendor'), { recursive: true })
  const lib = (await sources('lib'))
    .map((name) => join('lib', name))
    .filter((name) => !(dirname(name) === 'lib' && core.includes(basename(name, '.ts'))))
  const bin = (await sources('bin')).filter((name) => name !== 'kedge.ts').map((name) => join('bin', name))
  await build({ ...shared, entryPoints: [...lib, ...bin], outdir: out, outbase: '.', plugins: [rooms] })
  await build({
    ...shared,
    entryPoints: ['bin/kedge.ts'],
    outfile: join(out, 'kedge.cjs'),
    banner: { js: '#!/usr/bin/env node' },
    plugins: [rooms],
  })
  await build({
    ...shared,
    stdin: { contents: core.map((name) => `export * from './lib/${name}.ts'`).join('\n'), resolveDir: root, loader: 'ts' },
    outfile: join(out, 'core.cjs'),
    metafile: true,
    plugins: [
      {
        name: 'core',
        setup({ onResolve }) {
          onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
            const source = relative(root, join(resolveDir, path)).replace(/\.ts$/, '')
            return core.includes(source.replace(/^lib\//, '')) ? undefined : { path: `kedge-room:${source}`, external: true }
          })
        },
      },
      {
        name: 'packages',
        setup: ({ onResolve }) =>
          onResolve({ filter: /^[a-z]/ }, ({ path }) =>
            path !== 'minimist' && packages.includes(path) ? { path: `kedge-room:vendor/${path}`, external: true } : undefined,
          ),
      },
    ],
  })
  for (const name of packages.filter((each) => each !== 'minimist')) {
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
  // A kedge that runs meanwhile finds the old folder or the new one.
  await rm(`${out}.old`, { recursive: true, force: true })
  await rename('dist', `${out}.old`).catch((error) => {
    if (error.code !== 'ENOENT') throw error
  })
  await rename(out, 'dist')
  await rm(`${out}.old`, { recursive: true, force: true })
}

await (process.argv.includes('--tests') ? tests() : product())
