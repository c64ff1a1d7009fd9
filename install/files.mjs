// What `./setup --system` does with files, where sh and its tools differ from system to system:
//   lay STAGE PREFIX            copies the stage over PREFIX, and removes what an earlier stage of the same part brought and this one does not
//   name PREFIX VERSION TREE    prints the name of the folder in PREFIX/lib/kedge for the tree: VERSION, or VERSION-2 where another tree has it
//   link TARGET LINK            makes or changes a symbolic link in one step
//   lock PREFIX PID             takes the lock PREFIX/.kedge-setup for a process: status 1 where one has it that lives
//   units FROM TO COMMAND       copies systemd's units, with the command that they start
//   adopt PREFIX PATH...        what lies at the PATHs now counts as setup's own, unless the manifest has them
//   remove PREFIX FOLDER        removes what setup wrote below the folder of PREFIX
//   uninstall PREFIX            removes all that setup wrote
//   older VERSION OTHER         whether VERSION is older: status 0, else 1
//   sha256 FILE                 prints it
// What the operator changed is left, with a line `left PATH`. The last line of lay is `unchanged` where there was nothing to do.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { alike, isOurs, lib, look, read, sha256, walk, write } from './manifest.mjs'

/** A version's folder is a part of its own; all else is one part, since it belongs to the version in use. */
const partOf = (path) => /^lib\/kedge\/\d[^/]*(?=\/)/.exec(path)?.[0] ?? ''

/** The folders above the path that are not there, the highest first. */
function missingAbove(prefix, path) {
  const above = dirname(path)
  return above === '.' || existsSync(join(prefix, above)) ? [] : [...missingAbove(prefix, above), above]
}

/** Whoever opens the file meanwhile gets the old one or the new one, whole. */
function put({ path, kind, mark }, stage, prefix) {
  const to = join(prefix, path)
  const beside = join(dirname(to), `.kedge-${process.pid}`)
  rmSync(beside, { force: true })
  if (kind === 'l') symlinkSync(mark, beside)
  else {
    copyFileSync(join(stage, path), beside)
    chmodSync(beside, lstatSync(join(stage, path)).mode & 0o100 ? 0o755 : 0o644)
  }
  renameSync(beside, to)
}

function lay(stage, prefix) {
  const before = read(prefix)
  const wanted = walk(stage)
  const parts = new Set(wanted.map(({ path }) => partOf(path)))
  const listed = new Set(before.map(({ path }) => path))
  const theirs = new Set()
  const missing = wanted.filter((entry) => {
    const there = look(join(prefix, entry.path))
    if (alike(there, entry)) return false
    if (there && !isOurs(before, entry.path, there)) theirs.add(entry.path)
    return !theirs.has(entry.path)
  })
  const gone = before.filter(({ kind, path }) => kind !== 'd' && parts.has(partOf(path)) && !wanted.some((entry) => entry.path === path))
  const folders = [...new Set(missing.flatMap(({ path }) => missingAbove(prefix, path)))].map((path) => ({ kind: 'd', mark: '-', path }))
  // The manifest knows both states while it is between them: cut off here, the same call again goes on, and uninstall finds everything.
  mkdirSync(join(prefix, lib), { recursive: true })
  write(prefix, [...before, ...folders, ...missing])
  for (const { path } of folders) {
    mkdirSync(join(prefix, path), { recursive: true })
    chmodSync(join(prefix, path), 0o755)
  }
  for (const entry of missing) put(entry, stage, prefix)
  for (const path of theirs) console.log(`left ${join(prefix, path)}`)
  const kept = take(prefix, gone, before)
  const written = wanted.filter(({ path }) => !theirs.has(path) && (listed.has(path) || missing.some((entry) => entry.path === path)))
  const others = before.filter(({ kind, path }) => kind === 'd' || theirs.has(path) || !parts.has(partOf(path)))
  write(prefix, [...others, ...kept, ...folders, ...written])
  if (missing.length + gone.length === 0) console.log('unchanged')
}

/** Removes what is as setup wrote it; returns the entries whose files are not, which stay. */
function take(prefix, entries, manifest) {
  const kept = entries.filter(({ path }) => {
    const there = look(join(prefix, path))
    if (there && isOurs(manifest, path, there)) rmSync(join(prefix, path))
    else if (there) return true
    return false
  })
  for (const path of new Set(kept.map(({ path }) => path))) console.log(`left ${join(prefix, path)}`)
  return kept
}

/** Removes folders of the manifest that are empty, the deepest first; returns those that are not. */
function takeFolders(prefix, folders) {
  return folders
    .sort((a, b) => b.path.length - a.path.length)
    .filter(({ path }) => {
      try {
        rmdirSync(join(prefix, path))
        return false
      } catch (error) {
        if (error.code === 'ENOENT') return false
        if (error.code === 'ENOTEMPTY' || error.code === 'EEXIST') return true
        throw error
      }
    })
}

/** Without the folder: everything. */
function remove(prefix, folder) {
  const manifest = read(prefix)
  const below = ({ path }) => folder === undefined || `${path}/`.startsWith(`${folder}/`)
  const [folders, files] = [(entry) => entry.kind === 'd', (entry) => entry.kind !== 'd'].map((is) => manifest.filter(is).filter(below))
  const kept = take(prefix, files, manifest)
  if (folder === undefined) {
    for (const name of ['current', 'previous', 'manifest']) rmSync(join(prefix, lib, name), { force: true })
    takeFolders(prefix, folders)
  } else write(prefix, [...manifest.filter((entry) => !below(entry)), ...takeFolders(prefix, folders), ...kept])
}

function linked(prefix, name) {
  const there = look(join(prefix, lib, name))
  return there?.kind === 'l' ? there.mark : undefined
}

function name(prefix, version, tree) {
  if (!/^\d+\.\d+\.\d+[\w.]*$/.test(version)) throw new Error(`'${version}' is no version`)
  const wanted = new Map(walk(tree).map((entry) => [entry.path, entry]))
  const manifest = read(prefix)
  const usable = (name) => {
    const folder = join(lib, name)
    if (!existsSync(join(prefix, folder))) return true
    const there = walk(join(prefix, folder))
    if (there.length === wanted.size && there.every((entry) => alike(entry, wanted.get(entry.path)))) return true
    // Half written, and nobody's: an earlier call was cut off.
    if (name === linked(prefix, 'current') || name === linked(prefix, 'previous')) return false
    return there.every((entry) => isOurs(manifest, join(folder, entry.path), entry))
  }
  let found = version
  for (let number = 2; !usable(found); number++) found = `${version}-${number}`
  console.log(found)
}

function link(target, path) {
  const beside = `${path}.${process.pid}`
  rmSync(beside, { force: true })
  symlinkSync(target, beside)
  renameSync(beside, path)
}

/** Takes the lock, a link that names its process; undefined where it is taken, else who has it. */
function holderOf(path, pid) {
  try {
    symlinkSync(pid, path)
    return undefined
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    return look(path)?.mark ?? holderOf(path, pid)
  }
}

function lives(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code !== 'ESRCH'
  }
}

function lock(prefix, pid) {
  const path = join(prefix, '.kedge-setup')
  const holder = holderOf(path, pid)
  // One of this very number is a dead one's: in containers they are soon the same.
  if (holder === undefined) return
  if (Number(holder) !== pid && lives(Number(holder))) {
    console.log(`another setup is at work: process ${holder}, as the link ${path} says`)
    process.exitCode = 1
    return
  }
  // Moved away and looked at again: another call may have taken it over meanwhile, and its own is put back.
  const aside = `${path}.${pid}`
  try {
    renameSync(path, aside)
    if (look(aside)?.mark === holder) rmSync(aside)
    else renameSync(aside, path)
  } catch (error) {
    if (error.code !== 'ENOENT') throw error // another call was quicker
  }
  lock(prefix, pid)
}

/** A word of a command in a unit, in which nothing expands (systemd.syntax(7)). */
const word = (text) => (/^[\w@+=:,./-]+$/.test(text) ? text : `"${text.replaceAll('%', '%%').replace(/[\\"]/g, '\\$&')}"`)

/** In a program's own path a dollar sign is one already, and with quotes or backslashes in it systemd does not start it: a shell does. */
const program = (path) => (/['"\\]/.test(path) ? `/bin/sh -c "exec \\"$$0\\" \\"$$@\\"" ${word(path).replaceAll('$', '$$$$')}` : word(path))

function units(from, to, command) {
  for (const { path } of walk(from)) {
    const text = readFileSync(join(from, path), 'utf8')
    mkdirSync(dirname(join(to, path)), { recursive: true })
    writeFileSync(
      join(to, path),
      text.replace(/^(ExecStart=)\/usr\/local\/bin\/kedge(?= )/m, (_, key) => key + program(command)),
    )
  }
}

function adopt(prefix, ...paths) {
  const manifest = read(prefix)
  const listed = new Set(manifest.map(({ path }) => path))
  const found = paths.filter((path) => !listed.has(path)).map((path) => ({ path, ...look(join(prefix, path)) }))
  write(prefix, [...manifest, ...found.filter(({ kind }) => kind === 'f' || kind === 'l')])
}

function older(version, other) {
  const [a, b] = [version, other].map((text) => text.split(/\D+/).map(Number))
  const at = a.findIndex((number, place) => number !== (b[place] ?? 0))
  process.exitCode = at >= 0 && a[at] < (b[at] ?? 0) ? 0 : 1
}

const commands = {
  lay,
  name,
  link,
  lock,
  units,
  adopt,
  remove,
  older,
  uninstall: (prefix) => remove(prefix),
  sha256: (file) => console.log(sha256(file)),
}
const [command, ...args] = process.argv.slice(2)
commands[command](...args)
