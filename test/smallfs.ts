// A small file system of its own, for what a full disk does.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { scratch } from './harness.ts'

export type SmallFs = {
  dir: string
  /** Words to be put before a command that is to see it; none where all do. */
  enter: string[]
}

const run = (file: string, ...args: string[]) => execFileSync(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })

/**
 * An empty file system with room for so many bytes and inodes, unmounted after the test: as root ext4 in a file behind a loop device,
 * or tmpfs where there are no loop devices; as an ordinary user tmpfs in namespaces of its own, which `enter` leads into (as root there).
 */
export async function smallFs(t: TestContext, { bytes, inodes }: { bytes: number; inodes: number }): Promise<SmallFs> {
  let dir = ''
  // Before the folder is removed, which comes next.
  if (process.geteuid?.() === 0) t.after(() => spawnSync('umount', ['-l', dir]))
  const made = scratch(t)
  dir = path.join(made, 'small')
  fs.mkdirSync(dir)
  const options = ['-t', 'tmpfs', '-o', `size=${bytes},nr_inodes=${inodes},mode=0755`, 'none', dir]
  if (process.geteuid?.() !== 0) return { dir, enter: await ofItsOwn(t, options) }
  if (fs.existsSync('/dev/loop-control')) {
    const file = path.join(made, 'file')
    fs.writeFileSync(file, '')
    fs.truncateSync(file, bytes)
    run('mkfs.ext4', '-q', '-m', '0', '-N', String(inodes), '-O', '^has_journal', file)
    run('mount', '-o', 'loop', file, dir)
    fs.rmdirSync(path.join(dir, 'lost+found'))
  } else run('mount', ...options)
  return { dir, enter: [] }
}

async function ofItsOwn(t: TestContext, options: string[]): Promise<string[]> {
  const holder = spawn('unshare', ['-Urm', 'sh', '-c', 'mount "$@" && echo mounted && exec sleep 600', 'sh', ...options])
  t.after(() => holder.kill('SIGKILL'))
  const said = await new Promise<string>((resolve) => {
    let text = ''
    const add = (chunk: Buffer) => {
      text += chunk
      if (text.includes('mounted')) resolve(text)
    }
    holder.stdout.on('data', add)
    holder.stderr.on('data', add)
    holder.on('close', () => resolve(text))
  })
  assert.match(said, /^mounted/)
  return ['nsenter', '-t', String(holder.pid), '-U', '-m', '--preserve-credentials']
}
