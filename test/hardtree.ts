// A tree with everything that a backup can get wrong, as far as this user can make it.
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { growTree } from './tree.ts'

const root = process.geteuid?.() === 0

/** Names of which each is a file; the last has every byte that a name can have. */
const names: readonly (string | Buffer)[] = [
  'line\nfeed',
  '\n',
  'tab\there',
  '\ttab first',
  'carriage\rreturn',
  '-rf',
  '--delete',
  ' blank first',
  'blank last ',
  'a\\#012b',
  '\\#134#012',
  'back\\slash',
  'a => b',
  'a -> b',
  '# kedge manifest 1',
  '...',
  '*',
  '[x]?',
  '~',
  'x'.repeat(255),
  '字'.repeat(85),
  'e\u0301',
  'é',
  Buffer.from([0x6c, 0x61, 0x74, 0xe9, 0x6e]),
  Buffer.from([0xff, 0xfe, 0x80]),
  Buffer.from([0xc3, 0x28]),
  Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f)),
]

/** Before 1970 and after 2038, also beyond what 32 bits hold, with nanoseconds; and the second 0. */
const times: Readonly<Record<string, string>> = {
  'before 1970': '1965-03-04 05:06:07.123456789',
  'long before': '1902-01-01 00:00:00.000000001',
  'after 2038': '2040-05-06 07:08:09.987654321',
  'long after': '2345-12-31 23:59:59.999999999',
  zero: '1970-01-01 00:00:00',
  'whole second': '2024-02-29 12:00:00',
}

/** Grows it in an empty folder. As root with devices, owners, capabilities and what nobody may read; else without. */
export function hardTree(dir: string): void {
  growTree(dir)
  for (const grow of [oddNames, longPath, links, sparse, attributes, special, modes]) grow(dir)
  if (root) owners(dir)
  oldAndNew(dir)
}

const inside = (dir: string, name: string | Buffer): Buffer => Buffer.concat([Buffer.from(`${dir}/`), Buffer.from(name)])
const sh = (dir: string, script: string) => execFileSync('/bin/sh', ['-euc', script], { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })

function oddNames(dir: string): void {
  const [files, folders] = ['odd', 'odd folders'].map((name) => path.join(dir, name)) as [string, string]
  for (const folder of [files, folders]) fs.mkdirSync(folder)
  for (const [i, name] of names.entries()) {
    fs.writeFileSync(inside(files, name), `${i}\n`)
    fs.mkdirSync(inside(folders, name))
    fs.writeFileSync(Buffer.concat([inside(folders, name), Buffer.from('/in it')]), `${i}\n`)
    fs.symlinkSync(Buffer.from(name), inside(folders, Buffer.concat([Buffer.from('to '), Buffer.from(name).subarray(0, 250)])))
  }
}

/** More than 1,000 bytes of path below the tree. */
function longPath(dir: string): void {
  const long = path.join(dir, 'long', ...Array.from({ length: 6 }, (_, i) => `${i}`.repeat(200)))
  fs.mkdirSync(long, { recursive: true })
  fs.writeFileSync(path.join(long, 'deep'), 'deep\n')
  fs.linkSync(path.join(long, 'deep'), path.join(dir, 'long/also'))
}

function links(dir: string): void {
  sh(
    dir,
    `mkdir hard hard/one hard/two
     echo three names >hard/one/a; ln hard/one/a hard/two/b; ln hard/one/a hard/c
     ln -s ../a.txt hard/soft; ln hard/soft hard/soft-too
     mkfifo hard/fifo; ln hard/fifo hard/fifo-too`,
  )
}

function sparse(dir: string): void {
  const file = fs.openSync(path.join(dir, 'sparse'), 'w')
  fs.writeSync(file, 'begin', 0)
  fs.writeSync(file, 'middle', 20_000_000)
  fs.ftruncateSync(file, 40_000_000)
  fs.closeSync(file)
  fs.writeFileSync(path.join(dir, 'all hole'), '')
  fs.truncateSync(path.join(dir, 'all hole'), 10_000_000)
}

function attributes(dir: string): void {
  sh(
    dir,
    `mkdir acl; echo x >acl/file; echo x >acl/plain
     setfacl -m u:4242:rw,g:4343:r acl/file; setfacl -m u:4242:rwx,d:u:4242:rw,d:g:4343:r acl
     setfattr -n user.empty acl/plain; setfattr -n user.binary -v 0x00ff0a09 acl/plain; setfattr -n user.dir -v 'of a folder' acl
     setfattr -n 'user.with blank=and equals' -v 1 acl/plain`,
  )
  if (root)
    sh(
      dir,
      `setfattr -n trusted.kedge -v 'only for root' acl/plain
       cp acl/plain acl/able; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 acl/able`,
    )
}

function special(dir: string): void {
  const bind = 'use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; chdir $ARGV[0]; bind($s, sockaddr_un("socket")) or die'
  execFileSync('perl', ['-e', bind, dir])
  if (root) sh(dir, 'mkdir dev; mknod dev/c c 1 3; mknod dev/b b 7 200; mknod -m 0620 dev/big c 4095 1048575; ln dev/c dev/c-too')
}

function modes(dir: string): void {
  sh(
    dir,
    `mkdir modes; cd modes; for mode in 0400 0640 0777 1644 2755 4711 6755; do echo $mode >$mode; chmod $mode $mode; done
     mkdir setgid sticky closed; echo x >closed/file; chmod 2775 setgid; chmod 1777 sticky; chmod 0555 closed
     ${root ? 'mkdir 0000; echo x >0000/file; chmod 0000 0000; echo x >none; chmod 0000 none' : ''}`,
  )
}

function owners(dir: string): void {
  sh(
    dir,
    `mkdir owners; cd owners; echo x >by-number; chown 1234:4321 by-number; echo x >nobody; chown 65534:65534 nobody
     echo x >large; chown 4000000000:4000000001 large; ln -s large link; chown -h 1234:4321 link
     mkdir folder; echo x >folder/file; chown -R 1234:4321 folder; cp by-number suid; chown 1234:4321 suid; chmod 6755 suid`,
  )
}

/** Times last, since what was done before has changed them. */
function oldAndNew(dir: string): void {
  const at = path.join(dir, 'times')
  fs.mkdirSync(at)
  for (const [name, time] of Object.entries(times)) {
    fs.writeFileSync(path.join(at, name), `${name}\n`)
    fs.symlinkSync(name, path.join(at, `${name} link`))
    fs.mkdirSync(path.join(at, `${name} folder`))
    for (const kind of ['', ' link', ' folder']) execFileSync('touch', ['-h', '-d', `${time} UTC`, path.join(at, `${name}${kind}`)])
  }
  execFileSync('touch', ['-d', '1969-12-31 23:59:59.5 UTC', at])
}
