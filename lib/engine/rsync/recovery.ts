// The recovery sheet of an rsync target: where its folders are, and the rsync that brings them back with all that they have.
import { readFile } from 'node:fs/promises'
import { answer } from '../../child.ts'
import type { Target } from '../../contract.ts'
import { callerEnv } from '../../env.ts'
import { exported, quoted, restoredTo, type Sheet, shownText, streamLines, top } from '../../recovery.ts'
import { quote } from '../../shell.ts'
import { exists } from '../../source/paths.ts'
import { hashed, md5Check, withNoted } from './byhand.ts'
import { ownersOf, storeOf } from './store.ts'

/** Lines without `#` are commands for sh with GNU's rsync; they change nothing but the folder restored-NAME. */
export async function recoverySheet(sheet: Sheet): Promise<string> {
  const { target, secrets } = sheet
  const place = restoredTo(target)
  const lines = [
    ...top(sheet, 'the snapshots are written with'),
    '# To get it back you need a machine with sh and rsync (that of samba.org, 3.1 or newer), not kedge. Lines that begin with # explain,',
    "# the others are commands: type them one after the other, or run the whole page with 'sh -e' in an empty folder, where it puts",
    `# everything into ${place}. As root everything gets its owner back; an ordinary user gets the files as his own.`,
    '# The snapshots are plain folders, and nothing is encrypted: whoever has the disk of the store reads them, so guard it. The key of SSH',
    '# by which hosts were reached is not needed here, and can be made anew. Keep this page away from the machine it is for.',
    '',
    '# 1. Where the store is.',
    ...(await storeLines(target)),
    ...(secrets ? ['# The secrets of the target; to restore it none is needed.', ...exported(secrets)] : []),
    '',
    '# 2. What is there: a folder a snapshot, named by its time in UTC; the newest is at the end. snapshot.json in it says what it is, in',
    '#    manifest stands each file with its owner and hash, and tree is what the source was like, from / on. What did not change between',
    '#    two snapshots is one file with two names: copy it out, and never write in a tree. An adopted tree may be without owners.',
    `for name in ${owners(target)}; do ls -d "$store/$name"/snapshots/*/ || true; done`,
    '',
    ...restoring(target),
    ...proving(target),
  ]
  return `${lines.join('\n')}\n`
}

/** Those whose snapshots are the target's, the one that is written to last. */
const owners = (target: Target): string => ownersOf(target).reverse().map(quoted).join(' ')

async function storeLines(target: Target): Promise<string[]> {
  const store = storeOf(target)
  return [
    ...(await deviceOf(store)),
    '# Where the disk is mounted elsewhere, or this is a copy of the store, change the path. The second line shows its id, which was',
    `# ${target.env.STORE_ID ? shownText(target.env.STORE_ID) : 'not known yet'} when this page was written.`,
    `store=${quoted(store)}`,
    'cat "$store/kedge-store.json"',
  ]
}

/** The disk of the store, and what fstab says of it: the name of a device may be another one on the next machine. */
async function deviceOf(store: string): Promise<string[]> {
  if (!(await exists(store))) return ['# It was not there when this page was written.']
  const { status, stdout } = await answer(['df', '-P', store], { env: callerEnv() })
  const [, device, mount] = /\n(.*?) +\d+ +-?\d+ +-?\d+ +\S+ +(\/.*)/.exec(stdout) ?? []
  if (status !== 0 || !device || !mount) return []
  return [`# A folder on ${shownText(device)}, which was mounted on ${shownText(mount)}.`, ...(await fstabLines(mount))]
}

async function fstabLines(mount: string): Promise<string[]> {
  const text = await readFile('/etc/fstab', 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'EACCES') return ''
    throw error
  })
  const found = text.split('\n').find((line) => line.trim().split(/\s+/)[1] === mount && !line.startsWith('#'))
  return found ? [`# /etc/fstab had it as: ${shownText(found)}`] : []
}

/**
 * Where no root wrote the snapshot, owners and modes lie in xattrs. rsync turns them into real ones where it sends to another host: to this
 * one, through a shell. In a local copy --fake-super would be of both sides, and -M against it makes 3.2.7 write to a folder of a random name.
 */
const fakeLine = `fake= over=; if grep -q '"fake": true' "$snapshot/snapshot.json"; then fake=--fake-super over=localhost: RSYNC_RSH="sh -c 'shift; eval \\"\\$*\\"' sh"; export RSYNC_RSH; fi`

function restoring(target: Target): string[] {
  const place = restoredTo(target)
  const paths = [
    '# 3. The files of the newest snapshot, into a new folder. For an older one set snapshot to its folder, without a slash at the end. One',
    '#    folder of it alone: "$snapshot/tree/etc/" and the place it is to be in. Without rsync: cp -a "$snapshot/tree/." and the place,',
    '#    but not where snapshot.json says "fake": true: there no root wrote it, and owners, modes and devices lie in xattrs.',
    `for name in ${owners(target)}; do if [ -d "$store/$name/latest/tree" ]; then snapshot=$store/$name/latest; fi; done`,
    ': "${snapshot:?there is no snapshot}"',
    fakeLine,
    `mkdir ${place} && rsync -aHAXS --numeric-ids $fake "$snapshot/tree/" "$over"${place}/`,
  ]
  const streams = [
    `# ${target.paths.length > 0 ? 4 : 3}. What the streams wrote: each is a snapshot of its own.`,
    `newest() { for name in ${owners(target)}; do grep -lF "\\"stream\\": $1" "$store/$name"/snapshots/*/snapshot.json; done | tail -n 1; }`,
    ...streamLines(target, (name) => `cat "$(dirname "$(newest ${quote(JSON.stringify(name))})")/tree/"${quote(name)}`),
  ]
  if (target.streams.length === 0) return paths
  return target.paths.length > 0 ? [...paths, '', ...streams] : [streams[0] ?? '', `mkdir ${place}`, ...streams.slice(1)]
}

/** In the form that GNU's md5sum and OpenBSD's md5 both check; names with control characters are left out. */
const listing = `LC_ALL=C awk -F '\\t' ${quote(`${withNoted} ${hashed} { print "MD5 (" $1 ") = " $9 }`)} "$@"`

function proving(target: Target): string[] {
  if (target.paths.length === 0 && target.streams.length > 0) return []
  return [
    '',
    `# ${target.streams.length > 0 ? 5 : 4}. Whether each file is what was saved, by the hashes of the manifest. Nothing is printed where all is well.`,
    'set -- "$snapshot/manifest"; if [ -f "$snapshot/hashes" ]; then set -- "$snapshot/hashes" "$@"; fi',
    `${listing} | ${md5Check(restoredTo(target))}`,
  ]
}
