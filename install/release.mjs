// npm run release -- [--out DIR] [--gpg-key KEY] [--signify-key FILE]
// Makes kedge-VERSION.tar.gz, which needs only node, with SHA256SUMS and its signatures: SHA256SUMS.asc by gpg, SHA256SUMS.sig by
// signify. The same commit gives the same bytes, with the same node and the packages of the lock file (docs/release.md).
import { createHash } from 'node:crypto'
import { chmod, cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { create } from 'tar'
import { $, which } from 'zx'

const caller = process.cwd()
const root = dirname(import.meta.dirname)
process.chdir(root)
// zx would take bash, and its $'…' which plain sh has not.
Object.assign($, { shell: '/bin/sh', prefix: '', postfix: '', quote: (text) => `'${text.replaceAll("'", "'\\''")}'` })

const lines = (text) => text.split('\n').filter(Boolean)
const fail = (message) => {
  console.error(`release: ${message}`)
  process.exit(1)
}

function wanted() {
  const value = { type: 'string' }
  try {
    const { values } = parseArgs({
      options: { out: { ...value, default: join(root, '.build/release') }, 'gpg-key': value, 'signify-key': value },
    })
    const at = (path) => path && resolve(caller, path)
    return { out: at(values.out), gpgKey: values['gpg-key'], signifyKey: at(values['signify-key']) }
  } catch (error) {
    return fail(error.message)
  }
}

/** What is released is a commit: nothing that is not in it. */
async function commitTime() {
  const changed = (await $`git status --porcelain`).stdout
  if (changed) fail(`these are not as in the commit:\n${changed}`)
  const time = process.env.SOURCE_DATE_EPOCH ?? (await $`git log -1 --format=%ct`).stdout.trim()
  if (!/^\d+$/.test(time)) fail(`SOURCE_DATE_EPOCH='${time}' is no number of seconds`)
  return new Date(Number(time) * 1000)
}

/** Copies what an installation consists of, with modes that no umask has touched. Returns the paths in it, sorted, folders too. */
async function stage(folder) {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  for (const name of lines(await readFile('install/contents', 'utf8'))) await cp(name, join(folder, name), { recursive: true })
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.map((entry) => ({ path: join(entry.parentPath, entry.name), entry }))
  for (const { path, entry } of paths) {
    if (!entry.isFile() && !entry.isDirectory()) fail(`'${path}' is neither a file nor a folder`)
    const program = entry.isFile() && (await readFile(path)).subarray(0, 2).toString() === '#!'
    await chmod(path, entry.isDirectory() || program ? 0o755 : 0o644)
  }
  await chmod(folder, 0o755)
  return [folder, ...paths.map(({ path }) => path)].sort()
}

async function sign(out, { gpgKey, signifyKey }) {
  const [sums, asc, sig] = ['SHA256SUMS', 'SHA256SUMS.asc', 'SHA256SUMS.sig'].map((name) => join(out, name))
  for (const old of [asc, sig]) await rm(old, { force: true })
  // A passphrase is asked for on the terminal.
  const ask = $({ stdio: 'inherit' })
  if (gpgKey) await ask`gpg --batch --yes --armor --local-user ${gpgKey} --output ${asc} --detach-sign ${sums}`
  if (signifyKey) {
    const signify = (await which('signify-openbsd', { nothrow: true })) ?? (await which('signify'))
    await ask`${signify} -S -s ${signifyKey} -m ${sums} -x ${sig}`
  }
  if (!gpgKey && !signifyKey) console.error('release: not signed: neither --gpg-key nor --signify-key is given')
}

const { out, ...keys } = wanted()
const mtime = await commitTime()
await $`${process.execPath} build.mjs`
const { version } = JSON.parse(await readFile('package.json', 'utf8'))
const name = `kedge-${version}`
const work = join(root, '.build/stage')
const paths = (await stage(join(work, name))).map((path) => path.slice(work.length + 1))
await mkdir(out, { recursive: true })
const file = join(out, `${name}.tar.gz`)
// portable: no owners, no access times, no name of a system in the gzip header.
await create({ file: `${file}.new`, cwd: work, portable: true, mtime, gzip: { level: 9 }, noDirRecurse: true }, paths)
await rename(`${file}.new`, file)
const sum = createHash('sha256')
  .update(await readFile(file))
  .digest('hex')
await writeFile(join(out, 'SHA256SUMS'), `${sum}  ${name}.tar.gz\n`)
await sign(out, keys)
await rm(work, { recursive: true })
console.log(file)
