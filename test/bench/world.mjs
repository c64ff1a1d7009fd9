// Where the benchmark runs: a temporary folder with kedge's folders in it, an environment of its own, the newest tools of the tests.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { $ } from 'zx/core'

export const root = dirname(dirname(import.meta.dirname))
const require = createRequire(import.meta.url)
/** A built library file: `core`, `lib/retain`. */
export const built = (name) => join(root, 'dist', `${name}.cjs`)
/** A library file that a bundle holds (build.mjs). */
export const held = (bundle, source) => require(built(bundle))[source.replace(/\W/g, '_')]
const { quote } = held('core', 'lib/shell')

// zx would take bash, and its $'…' which plain sh has not.
Object.assign($, { shell: '/bin/sh', prefix: '', postfix: '', quote })

const tools = process.env.KEDGE_TEST_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kedge-test')
/** Kept from one benchmark to the next: what takes long to make. */
export const kept = join(tools, 'bench')

/** The folders of a tool's versions that the tests have, oldest first: [{ version, bin }]. */
export function versions(tool) {
  const names = existsSync(tools) ? readdirSync(tools).filter((name) => new RegExp(`^${tool}-[\\d.]+$`).test(name)) : []
  if (names.length === 0) throw new Error(`no ${tool} in ${tools}: ./test/run fetches it`)
  return names
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .map((name) => ({ version: name.slice(tool.length + 1), bin: join(tools, name, 'usr/bin') }))
}

export const rsnapshot = join(tools, 'rsnapshot/usr/bin/rsnapshot')

export const password = 'benchmark'

export function createWorld() {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'kedge-bench-')))
  const env = {
    HOME: dir,
    PATH: [versions('restic').at(-1).bin, versions('rsync').at(-1).bin, dirname(process.execPath), '/usr/local/bin:/usr/bin:/bin'].join(
      ':',
    ),
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    KEDGE_CONFIG_DIR: join(dir, 'etc'),
    KEDGE_STATE_DIR: join(dir, 'state'),
    KEDGE_CACHE_DIR: join(dir, 'cache'),
  }
  return { dir, env, remove: () => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }) }
}

/** zx's $ in the world: short commands that prepare something. */
export const prepare = (world, env) => $({ env: { ...world.env, ...env }, cwd: world.dir, stdio: ['ignore', 'pipe', 'pipe'] })

/** kedge as words of a command: node and its file, since a shebang's env would be measured too. */
export const kedge = (...args) => [process.execPath, built('kedge'), ...args]

/** Writes a target. */
export function addTarget(world, name, repository, path) {
  const dir = join(world.env.KEDGE_CONFIG_DIR, 'targets', name)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  writeFileSync(join(dir, 'target.env'), `ENGINE=restic\nRESTIC_REPOSITORY=${quote(repository)}\nSECRET=file\n`, { mode: 0o600 })
  writeFileSync(join(dir, 'secret.env'), `RESTIC_PASSWORD=${password}\n`, { mode: 0o400 })
  writeFileSync(join(dir, 'paths'), `${path}\n`)
}

/** The environment of a restic without kedge, which has the cache that kedge's restic has for this target. */
export const bare = (world, name, repository) => ({
  RESTIC_REPOSITORY: repository,
  RESTIC_PASSWORD: password,
  RESTIC_CACHE_DIR: join(world.env.KEDGE_CACHE_DIR, name, 'restic'),
  RESTIC_PROGRESS_FPS: '2',
})
