// Trees of files: one to save, and two compared in all that a restore has to bring back.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'

/** Fails unless two trees are equal: names, types, bytes, modes, owners, times, links, hard links, devices, xattrs. */
export function sameTree(actual: string, expected: string): void {
  const [a, b] = [treeFacts(actual), treeFacts(expected)]
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()
  const different = names.filter((name) => a[name] !== b[name])
  assert.deepEqual(pick(a, different), pick(b, different), `${actual} is not as ${expected}`)
}

function pick(all: Record<string, string>, names: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(names.map((name) => [name, all[name]]))
}

/** What is to be compared of each file of a tree, as text, by its path in the tree: a character a byte (latin1), as names may be any bytes. */
export function treeFacts(tree: string): Record<string, string> {
  const first = new Map<string, string>()
  const result: Record<string, string> = {}
  const visit = (name: string) => {
    const file = inTree(tree, name)
    const stat = fs.lstatSync(file, { bigint: true })
    const inode = `${stat.dev}:${stat.ino}`
    const facts = [`mode ${stat.mode.toString(8)}`, `owner ${stat.uid}:${stat.gid}`, `mtime ${stat.mtimeNs}`]
    if (stat.isFile()) facts.push(`size ${stat.size}`, `sha256 ${hash(file)}`)
    if (stat.isSymbolicLink()) facts.push(`to ${JSON.stringify(fs.readlinkSync(file, 'latin1'))}`)
    if (stat.isBlockDevice() || stat.isCharacterDevice()) facts.push(`device ${stat.rdev}`)
    // Names outside the tree, as in other snapshots, are no matter.
    if (!stat.isDirectory() && first.has(inode)) facts.push(`linked with ${first.get(inode)}`)
    else first.set(inode, name)
    result[name] = facts.join(', ')
    if (stat.isDirectory()) for (const child of fs.readdirSync(file, 'latin1').sort()) visit(name === '.' ? child : `${name}/${child}`)
  }
  visit('.')
  for (const [name, values] of xattrs(tree)) result[name] += `, ${values}`
  return result
}

const inTree = (tree: string, name: string): Buffer =>
  name === '.' ? Buffer.from(tree) : Buffer.concat([Buffer.from(`${tree}/`), Buffer.from(name, 'latin1')])

/** Fails where a file has come back with more than twice the blocks it had: its holes were filled. */
export function sameHoles(actual: string, expected: string): void {
  for (const [name, facts] of Object.entries(treeFacts(expected))) {
    if (!facts.includes('sha256')) continue
    const [blocks = 0, room = 0] = [actual, expected].map((tree) => fs.lstatSync(inTree(tree, name)).blocks)
    assert.ok(blocks <= room * 2 + 16, `${name}: ${blocks} blocks, and in ${expected} ${room}`)
  }
}

/** One for all: a new one a file costs more than reading it. */
const buffer = Buffer.alloc(1 << 20)

function hash(file: Buffer): string {
  const sum = createHash('sha256')
  const fd = fs.openSync(file, 'r')
  for (let n = fs.readSync(fd, buffer); n > 0; n = fs.readSync(fd, buffer)) sum.update(buffer.subarray(0, n))
  fs.closeSync(fd)
  return sum.digest('hex')
}

/** Extended attributes as getfattr prints them: a block a file, `# file: NAME` with odd bytes in octal, then the values. */
function xattrs(tree: string): [string, string][] {
  if (!fs.existsSync('/usr/bin/getfattr')) return []
  const folder = fs.statSync(tree).isDirectory()
  const [cwd, what] = folder ? [tree, '.'] : [path.dirname(tree), path.basename(tree)]
  const asked = '^(user|trusted|system)\\.|^security\\.capability'
  const text = execFileSync('getfattr', ['-R', '-P', '-h', '-d', '-m', asked, '-e', 'hex', what], { cwd, maxBuffer: 1 << 28 })
  const blocks = text.toString('latin1').split('\n\n').filter(Boolean)
  return blocks.map((block) => {
    const [head = '', ...values] = block.split('\n')
    const name = head
      .slice('# file: '.length)
      .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    return [folder ? name.replace(/^\.\//, '') : '.', values.sort().join(' ')]
  })
}

const big = Buffer.alloc(3_000_000)
for (let i = 0; i < big.length; i++) big[i] = Math.imul(i, 2654435761) >>> 13

/** A small tree with all that a restore can get wrong: owners (as root), setuid, links, times, fifo, xattrs, holes, odd names. */
export function growTree(dir: string): void {
  const at = (name: string) => path.join(dir, name)
  for (const folder of ['deep/er', 'empty', 'names', 'links']) fs.mkdirSync(at(folder), { recursive: true })
  const files: Record<string, string | Buffer> = {
    'a.txt': 'alpha\n',
    none: '',
    'deep/er/three.txt': 'three\n',
    'deep/big.bin': big,
    'names/with space and \'quotes\' "both"': 'q\n',
    'names/new\nline': 'n\n',
    'names/ünï$dollar`tick\\back*star[x]': 'u\n',
    'names/-rf': 'd\n',
    suid: 's\n',
    secret: 'not for all\n',
  }
  for (const [name, content] of Object.entries(files)) fs.writeFileSync(at(name), content)
  const holes = fs.openSync(at('holes'), 'w')
  fs.writeSync(holes, 'end', 5_000_000)
  fs.closeSync(holes)
  fs.linkSync(at('a.txt'), at('links/hard'))
  fs.symlinkSync('../a.txt', at('links/soft'))
  fs.symlinkSync('/nowhere/at all', at('links/dangling'))
  execFileSync('mkfifo', [at('fifo')])
  if (fs.existsSync('/usr/bin/setfattr')) execFileSync('setfattr', ['-n', 'user.kedge', '-v', 'an attribute', at('a.txt')])
  if (process.getuid?.() === 0) fs.chownSync(at('deep/er/three.txt'), 1234, 4321)
  fs.chmodSync(at('suid'), 0o4755)
  fs.chmodSync(at('secret'), 0o600)
  fs.chmodSync(at('empty'), 0o1777)
  fs.utimesSync(at('deep/er/three.txt'), 1_000_000_000, 1_000_000_000.5)
  for (const folder of ['links', 'deep/er', '.']) fs.utimesSync(at(folder), 1_100_000_000, 1_100_000_000.25)
}
