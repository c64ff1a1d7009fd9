// Gives a target another name: state and cache first, its folder last, so that the same call again goes on where one was cut off.
// The snapshots keep what marks them as the old name's, and SNAPSHOTS_OF says so.
import { mkdir, mkdtemp, rename as move, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Context, Target } from './contract.ts'
import { sheetOf, traitsOf } from './engine.ts'
import { setEnvKey } from './env.ts'
import { Failure } from './failure.ts'
import { changeText } from './inplace.ts'
import { words } from './keys.ts'
import { cacheDir, stateDir, targetsDir } from './paths.ts'
import { sheetFile } from './recovery.ts'
import type { FileRow } from './rows/house.ts'
import type { CommandLine } from './rows.ts'
import { sealSecrets } from './seal.ts'
import { openSealed } from './secret.ts'
import { quote } from './shell.ts'
import { exists } from './source/paths.ts'
import { loadTarget, storeMark, targetDir, targetNames } from './target.ts'
import { holdWhole } from './whole.ts'

/** One key of a file that is to have another value. */
export type Edit = { readonly file: string; readonly key: string; readonly value: string }

/** What SNAPSHOTS_OF must be, so that the snapshots of the old name still belong to the target. Pure. */
export function namesAfter(snapshotsOf: string | undefined, old: string, now: string): string[] {
  const names = words(snapshotsOf)
  // A second store holds those of others, and none under its own name.
  if (names.length > 0 && !names.includes(old)) return names
  return [...new Set([now, ...(names.length > 0 ? names : [old])])]
}

/** What other targets say of the old name, said of the new one. Pure. */
export function editsOf(other: Target, old: string, now: string): Edit[] {
  const file = join(other.dir, 'target.env')
  const edits: Edit[] = []
  const copies = words(other.env.COPY_TO)
  if (copies.includes(old))
    edits.push({ file, key: 'COPY_TO', value: [...new Set(copies.map((name) => (name === old ? now : name)))].join(' ') })
  const names = words(other.env.SNAPSHOTS_OF)
  // There lie snapshots of the old name, and there will be some of the new one.
  if (names.includes(old) && !names.includes(now)) {
    edits.push({ file, key: 'SNAPSHOTS_OF', value: names.flatMap((name) => (name === old ? [now, old] : [name])).join(' ') })
  }
  return edits
}

/** Failure 'misuse' where there is no such target, or one of the new name. */
export async function* renameTarget(old: string, now: string, context: Context): AsyncGenerator<FileRow | CommandLine> {
  const [from, to] = [targetDir(old), targetDir(now)]
  if (old === now) throw new Failure('misuse', `the target is called '${old}' already`)
  // Cut off after its last step: only what others say of it may be left.
  const moved = !(await exists(from)) && words((await settings(to)).SNAPSHOTS_OF).includes(old)
  if (!moved && (await exists(to))) throw new Failure('misuse', `target '${now}' exists: '${to}'`)
  const target = await loadTarget(moved ? now : old)
  if (target.engine === 'rsync' && now === storeMark)
    throw new Failure('misuse', `not a name for a target of rsync: '${now}' marks the store`)
  const others = []
  for (const name of await targetNames()) if (name !== target.name) others.push(await loadTarget(name))
  const names = namesAfter(target.env.SNAPSHOTS_OF, old, now).join(' ')
  const own = { file: join(target.dir, 'target.env'), key: 'SNAPSHOTS_OF', value: names }
  const edits = [...(names === (target.env.SNAPSHOTS_OF ?? '') ? [] : [own]), ...others.flatMap((other) => editsOf(other, old, now))]
  const moves: [string, string][] = []
  for (const pair of [
    [stateDir(old), stateDir(now)],
    [cacheDir(old), cacheDir(now)],
    [from, to],
  ] as [string, string][]) {
    if (!(await exists(pair[0]))) continue
    if (await exists(pair[1]))
      throw new Failure('misuse', `cannot rename '${old}': '${pair[1]}' exists`, { hint: 'move it away, or give another name' })
    moves.push(pair)
  }
  const row = (path: string, action: FileRow['action']): FileRow => ({ kind: 'file', target: now, path, action })
  if (context.mode === 'explain') {
    if (target.secret === 'credential' && !moved) yield { kind: 'command', command: resealCommand(target, now) }
    for (const edit of edits) yield { kind: 'command', command: editCommand(edit) }
    for (const [a, b] of moves) yield { kind: 'command', command: `mv ${quote(a)} ${quote(b)}` }
    return
  }
  if (context.mode === 'dry-run') {
    for (const { file } of edits) yield row(file, 'would write')
    for (const [, path] of moves) yield row(path, 'would move')
    return
  }
  const stateMoved = !(await exists(stateDir(old))) && (await exists(stateDir(now)))
  const release = await holdWhole({ ...target, name: stateMoved ? now : old }, 'rename', context)
  try {
    if (target.secret === 'credential' && !moved) await resealCredential(target, now, context)
    for (const edit of edits) {
      await apply(edit)
      if (edit !== own) yield row(edit.file, 'written')
    }
    // Taking the lock made the folder of the state, where there was none.
    const state = !moves.some(([a]) => a === stateDir(old)) && (await exists(stateDir(old))) && !(await exists(stateDir(now)))
    for (const [a, b] of state ? [[stateDir(old), stateDir(now)] as [string, string], ...moves] : moves) {
      await moveFolder(a, b)
      yield row(b, 'moved')
    }
    // Those that name its tags: its own, and a second store's.
    for (const name of new Set([now, ...edits.filter(({ key }) => key === 'SNAPSHOTS_OF').map(({ file }) => basename(dirname(file)))])) {
      const written = name === old ? undefined : await rewriteSheet(name)
      if (written) yield row(written, 'written')
    }
  } finally {
    await release()
  }
  // A second store holds none of its own name.
  if (words(names).includes(old)) {
    const { markOf } = await traitsOf(target.engine)
    context.log(`the snapshots keep ${markOf(target, old)}: SNAPSHOTS_OF='${names}' takes them in`)
  }
  context.log(`'kedge schedule install' renews what starts its runs; crontabs and recovery sheets that name '${old}' want the new name too`)
}

async function settings(dir: string): Promise<Readonly<Record<string, string>>> {
  if (!(await exists(join(dir, 'target.env')))) return {}
  return (await loadTarget(basename(dir))).env
}

async function apply({ file, key, value }: Edit): Promise<void> {
  await changeText(file, (text) => setEnvKey(text, key, value))
}

async function moveFolder(from: string, to: string): Promise<void> {
  try {
    await move(from, to)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EXDEV') {
      // A folder of a container's lower layer: copied, then removed; cut off in between, the copy is in the way and named.
      const { move: moveAcross } = await import('fs-extra')
      await moveAcross(from, to)
      return
    }
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EBUSY' && code !== 'EROFS') throw error
    throw new Failure('permission', `cannot move '${from}' to '${to}': ${code === 'EBUSY' ? 'a file system is mounted on it' : code}`, {
      cause: error,
    })
  }
}

/** systemd binds a credential to the name kedge-NAME. A call that was cut off may have done it already. */
async function resealCredential(target: Target, now: string, context: Context): Promise<void> {
  const under = (name: string) => openSealed({ ...target, name }, context)
  const values = await under(target.name).catch(async (error) => {
    if (!(error instanceof Failure) || error.class !== 'auth') throw error
    await under(now).catch(() => {
      throw error
    })
    return undefined
  })
  if (!values) return
  // Sealed to the name of the folder that it is written into.
  const beside = await mkdtemp(join(targetsDir(), '.new-'))
  try {
    await mkdir(join(beside, now), { mode: 0o700 })
    const sealed = await sealSecrets(join(beside, now), 'credential', values, { signal: context.signal })
    if ('file' in sealed) await move(sealed.file, join(target.dir, basename(sealed.file)))
  } finally {
    await rm(beside, { recursive: true, force: true })
  }
}

async function rewriteSheet(name: string): Promise<string | undefined> {
  const target = await loadTarget(name)
  const file = sheetFile(target.dir)
  if (!(await exists(file))) return undefined
  const text = await sheetOf(target)
  await changeText(file, () => text)
  return file
}

function resealCommand(target: Target, now: string): string {
  const [file, fresh] = [quote(join(target.dir, 'secret.cred')), quote(join(target.dir, '.secret.cred.new'))]
  const opened = `values=$(systemd-creds decrypt --name=kedge-${target.name} ${file} -)`
  const sealed = `printf '%s\\n' "$values" | systemd-creds encrypt --name=kedge-${now} - - > ${fresh}`
  return `(umask 077; ${opened} && ${sealed}) && mv ${fresh} ${file}`
}

function editCommand({ file, key, value }: Edit): string {
  const fresh = join(dirname(file), '.target.env.new')
  const line = `${key}=${quote(value)}`
  return `{ grep -v '^${key}=' ${quote(file)}; echo ${quote(line)}; } > ${quote(fresh)} && mv ${quote(fresh)} ${quote(file)}`
}
