// A snapshot as an ordinary user keeps it: owners, modes and devices in xattrs.
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { fake, type Machine, type Rsync } from './harness.ts'

/** Sends the snapshot's tree to an rsync of uid 65534, whose copy takes its place. The folders above have to be open to it. */
export function receivedByUser(m: Machine, { snapshot, rsync }: { snapshot: string; rsync: Rsync }): void {
  const tree = path.join(snapshot, 'tree')
  const shell = fake(m.bin, 'as-user', 'shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"')
  const kept = path.join(m.dir, 'kept')
  fs.renameSync(tree, kept)
  fs.mkdirSync(tree)
  fs.chownSync(tree, 65534, 65534)
  for (let at = path.dirname(tree); at.startsWith(m.dir); at = path.dirname(at)) fs.chmodSync(at, 0o755)
  // Where an ordinary user may start it.
  const program = path.join(m.dir, `rsync-${rsync.version}`)
  fs.copyFileSync(rsync.path, program)
  const args = ['-aHAXS', '--numeric-ids', `--rsync-path=${program}`, '-M--fake-super', '-e', shell, `${kept}/`, `host:${tree}/`]
  execFileSync(rsync.path, args)
  fs.rmSync(kept, { recursive: true })
}
