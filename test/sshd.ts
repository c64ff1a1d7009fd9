// A real sshd on 127.0.0.1, unpacked and never installed, into which the user who runs the tests can log in with a key.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import net from 'node:net'
import { userInfo } from 'node:os'
import path from 'node:path'

import { type Machine, scratch, tools } from './harness.ts'
import { freePort } from './port.ts'

export type Sshd = {
  port: number
  user: string
  /** A private key; nobody may log in with it before `authorize`. */
  key: string
  /** Its public half: `ssh-ed25519 AAAA…`. */
  publicKey: string
  /** Lets this line of authorized_keys in, in place of what was there; without one the key, for everything. */
  authorize: (line?: string) => void
  /** The host's line for a known_hosts. */
  known: () => string
  /** The settings of a target that pulls from here; the machine's kedge knows the host from now on. */
  pulled: (machine: Machine) => Record<string, string>
  /** Kills what is logged in now, without a word to the other side. */
  cut: () => number
}

const sshd = path.join(tools, 'openssh/usr/sbin/sshd')

/** Starts one, with the key let in; `PATH` is what its sessions have. It ends with the test. */
export async function startSshd(t: { after: (act: () => void) => void }, options: { PATH?: string } = {}): Promise<Sshd> {
  assert.ok(fs.existsSync(sshd), `sshd in ${tools}: run ./test/run once`)
  const dir = scratch(t)
  const at = (name: string) => path.join(dir, name)
  const keygen = (name: string) => execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'kedge-test', '-f', at(name)])
  const half = (name: string) =>
    fs
      .readFileSync(at(`${name}.pub`), 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ')
  for (const name of ['host', 'key']) keygen(name)
  const authorize = (line = half('key')) => fs.writeFileSync(at('authorized_keys'), `${line}\n`)
  authorize()
  const port = await freePort()
  fs.writeFileSync(at('config'), config(dir, port, options.PATH))
  const log = fs.openSync(at('log'), 'a')
  const command = asRoot() ? inItsOwnRoom(dir) : [sshd]
  const child = spawn(command[0] ?? '', [...command.slice(1), '-D', '-e', '-f', at('config')], {
    env: { PATH: process.env.PATH, LD_LIBRARY_PATH: libraries() },
    stdio: ['ignore', log, log],
  })
  fs.closeSync(log)
  t.after(() => {
    cutSessions(child.pid)
    child.kill('SIGKILL')
  })
  await answers(port, () => {
    assert.equal(child.exitCode, null, `sshd ended:\n${fs.readFileSync(at('log'), 'utf8')}`)
  })
  const known = () => `[127.0.0.1]:${port} ${half('host')}`
  return {
    port,
    user: userInfo().username,
    key: at('key'),
    publicKey: half('key'),
    authorize,
    known,
    pulled(machine) {
      fs.appendFileSync(path.join(machine.config, 'known_hosts'), `${known()}\n`)
      return { SOURCE_HOST: `${userInfo().username}@127.0.0.1`, SOURCE_PORT: String(port), SSH_KEY: at('key'), CONNECT_TIMEOUT: '10s' }
    },
    cut: () => cutSessions(child.pid),
  }
}

const asRoot = () => process.geteuid?.() === 0

/** An ordinary user's sshd cannot read shadow, and takes that for a locked account unless PAM is asked. */
const config = (dir: string, port: number, PATH?: string): string => `
ListenAddress 127.0.0.1
Port ${port}
HostKey ${dir}/host
PidFile none
AuthorizedKeysFile ${dir}/authorized_keys
StrictModes no
UsePAM ${asRoot() ? 'no' : 'yes'}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxStartups 100
Subsystem sftp internal-sftp
${PATH ? `SetEnv PATH=${PATH}` : ''}
`

/** libwrap, which was unpacked with it. Children of a session do not get the variable: sshd gives them an environment of their own. */
function libraries(): string {
  const lib = path.join(tools, 'openssh/usr/lib')
  return fs
    .readdirSync(lib)
    .map((name) => path.join(lib, name))
    .join(':')
}

/**
 * As root, sshd wants a user `sshd`, an empty folder /run/sshd, and an account that is not locked. It gets them in a mount namespace,
 * so that the machine stays as it is; there root has an empty home and sh, and no profile of its own speaks into a session.
 */
function inItsOwnRoom(dir: string): string[] {
  const at = (name: string) => path.join(dir, name)
  fs.mkdirSync(at('home'))
  const users = fs.readFileSync('/etc/passwd', 'utf8').replace(/^(sshd|root):.*\n/gm, '')
  const own = `root:x:0:0::${at('home')}:/bin/sh\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n`
  fs.writeFileSync(at('passwd'), `${own}${users}`)
  fs.writeFileSync(at('shadow'), fs.readFileSync('/etc/shadow', 'utf8').replace(/^root:!+/m, 'root:*'), { mode: 0o600 })
  const script = `
    mount --bind ${at('passwd')} /etc/passwd && mount --bind ${at('shadow')} /etc/shadow &&
    mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"`
  return ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, 'sh', sshd]
}

/** Waits until something says SSH there. */
async function answers(port: number, look: () => void): Promise<void> {
  for (let i = 0; i < 200; i++) {
    look()
    const said = await new Promise<string>((resolve) => {
      const socket = net.connect(port, '127.0.0.1')
      socket.on('error', () => resolve(''))
      socket.on('data', (data) => {
        socket.destroy()
        resolve(data.toString())
      })
    })
    if (said.startsWith('SSH-')) return
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  throw new Error(`nothing answers on port ${port}`)
}

/** Kills all that comes from the listener: sessions, and what runs in them. Returns how many processes that were. */
function cutSessions(listener: number | undefined): number {
  const children = new Map<number, number[]>()
  for (const line of execFileSync('ps', ['-A', '-o', 'pid=,ppid=']).toString().trim().split('\n')) {
    const [pid = 0, parent = 0] = line.trim().split(/\s+/).map(Number)
    children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const below = (pid: number): number[] => (children.get(pid) ?? []).flatMap((child) => [child, ...below(child)])
  const all = listener === undefined ? [] : below(listener)
  for (const pid of all) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  return all.length
}
