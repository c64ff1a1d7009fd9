// What of another tool's snapshots is taken in: where each goes, and as what. Nothing here changes anything.
import { existsSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, isAbsolute, join, normalize, resolve } from 'node:path'
import type { RunContext, SnapshotFilter, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { CommandLine } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { manualTag } from '../../snapshots.ts'
import { zoneOf } from '../../target.ts'
import { adoptingOf, idsMoving, type Moving, placeOf, type Step } from './adopting.ts'
import { layoutOf, listed, type Old } from './layouts.ts'
import { idOf, idsIn, readStored } from './snapshots.ts'
import { rootOf, storeOf } from './store.ts'
import { explain } from './tool.ts'

/**
 * The renames, the oldest snapshot first. `begun`: some of the folder were taken in by now, and what is left may have no layout. Failure
 * `refused` where nothing fits, `misuse` for options that do not.
 */
export async function planned(
  target: Target,
  from: string,
  filter: SnapshotFilter,
  context: Pick<RunContext, 'log'>,
  begun = false,
): Promise<Step[]> {
  const { host, paths = [] } = filter
  const folder = resolve(from)
  const root = rootOf(target)
  if (folder === root || folder.startsWith(`${root}/`))
    throw new Failure('misuse', `cannot take in '${folder}': it is the folder of target '${target.name}' itself`)
  const at = rootPath(paths)
  const layout = await layoutOf(folder, host, zoneOf(target))
  if (!layout && !begun) {
    throw new Failure('refused', `refusing to take in '${folder}': no layout that kedge knows`, {
      hint: 'known are those of rsnapshot, rsync-time-backup and pobsync, and folders named after dates: kedge-init(1) shows them',
    })
  }
  const { name, placed, snapshots, left, others = [] } = layout ?? { name: 'the rest', placed: true, snapshots: [], left: [] }
  for (const each of left) context.log(`left in '${folder}': ${each}`)
  const [first, last] = [snapshots[0], snapshots.at(-1)]
  if (!first || !last) {
    if (!begun && !cameFrom(target, folder)) throw nothingIn(folder, name, host, others)
    if (others.length > 0) context.log(`left in '${folder}': the hosts ${listed(others)}`)
    context.log(`${name} in '${folder}': there is no snapshot to take in`)
    return []
  }
  const count = `${snapshots.length} ${snapshots.length === 1 ? 'snapshot' : 'snapshots'}`
  const span = `${timeOf(first).slice(0, 10)} to ${timeOf(last).slice(0, 10)}`
  context.log(`${name} in '${folder}': ${count}, ${span}, whose root lay at '${at}'`)
  context.log('what made them finds them gone, and would begin anew with a full copy: switch it off')
  for (const { path } of snapshots) if (statSync(path).dev !== statSync(storeOf(target)).dev) throw elsewhere(target, path)
  if (paths.length === 0 && !placed) judgeRoot(target, last.path)
  const taken = new Set([...idsIn(root), ...idsMoving(target)])
  return snapshots.map((old) => ({ id: freeId(old, taken), moving: movingOf(target, old, at, host) }))
}

/** Whether the target has what was taken in from the folder: the same call again is no mistake. */
const cameFrom = (target: Target, folder: string): boolean =>
  idsIn(rootOf(target)).some((id) => readStored(join(rootOf(target), 'snapshots', id))?.adopted?.startsWith(`${folder}/`))

const nothingIn = (folder: string, layout: string, host: string | undefined, others: readonly string[]): Failure =>
  host !== undefined && others.length > 0
    ? new Failure('misuse', `cannot take in '${folder}': there is no snapshot of host '${host}'`, { hint: `there are ${listed(others)}` })
    : new Failure('empty', `cannot take in '${folder}': the ${layout.replace(/^the /, '')} has no snapshot`)

const timeOf = ({ time }: Old): string => new Date(Math.floor(time)).toISOString()

/** A rename does not leave its file system. */
const elsewhere = (target: Target, path: string): Failure =>
  new Failure('refused', `refusing to take in '${path}': it lies on another file system than the store '${storeOf(target)}'`, {
    hint: 'what is taken in is renamed, and never copied: make a store on its file system',
  })

function rootPath(paths: readonly string[]): string {
  const [path = '/', second] = paths
  if (second !== undefined) throw new Failure('misuse', 'with --from, --path says where the root of the trees lay: there is one')
  if (!isAbsolute(path)) throw new Failure('misuse', `--path is an absolute path here: '${path}'`)
  return normalize(path).replace(/(?<=.)\/+$/, '')
}

function freeId(old: Old, taken: Set<string>): string {
  for (let number = 0; ; number++) {
    const id = idOf(new Date(timeOf(old)), number)
    if (taken.has(id)) continue
    taken.add(id)
    return id
  }
}

/** A root that lay elsewhere would be taken in without a word, and no backup would link to it. */
function judgeRoot(target: Target, tree: string): void {
  const [path] = target.paths
  if (path === undefined || target.paths.some((each) => existsSync(join(tree, each)))) return
  throw new Failure('refused', `refusing to take in '${tree}': it holds none of the paths of '${target.name}'`, {
    hint: `--path says where its root lay, as in --path ${path}`,
  })
}

function movingOf(target: Target, old: Old, at: string, host: string | undefined): Moving {
  const below = at === '/' ? '' : at
  const inside = target.paths.filter((path) => `${path}/`.startsWith(`${below}/`) && existsSync(join(old.path, path.slice(below.length))))
  return {
    from: old.path,
    at,
    time: timeOf(old),
    host: old.host ?? (old.dated === undefined ? host : undefined) ?? target.env.HOST ?? hostname(),
    paths: inside.length > 0 ? inside : [at],
    tags: [`kedge:${target.name}`, ...(old.manual ? [manualTag] : [])],
    ...(old.dated !== undefined && { stamp: { folder: old.dated, mtime: old.time / 1000 } }),
  }
}

/** The renames by hand, each with the note from which `kedge init --adopt` goes on: it looks at the trees and publishes them. */
export function* renamedByHand(target: Target, steps: readonly Step[]): Generator<CommandLine> {
  const folder = adoptingOf(target)
  yield explain(target, ['mkdir', '-p', '-m', '700', folder])
  for (const step of steps) {
    const { id, moving } = step
    const [place, note] = [placeOf(target, step), quote(join(folder, `${id}.json`))]
    const [own, stamp] = [quote(join(folder, `${id}.time`)), moving.stamp && quote(moving.stamp.folder)]
    yield { kind: 'command', command: `printf '%s\\n' ${quote(JSON.stringify(moving))} > ${note}` }
    yield { kind: 'command', command: `mkdir -m 700 ${quote(join(folder, id))} && mkdir -p ${quote(dirname(place))}` }
    const rename = `mv ${quote(moving.from)} ${quote(place)}`
    yield { kind: 'command', command: stamp ? `touch -r ${stamp} ${own} && ${rename} && touch -r ${own} ${stamp} && rm ${own}` : rename }
  }
  yield explain(target, ['kedge', 'init', '--adopt', target.name])
}
