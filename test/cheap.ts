// Cheap keys for the repositories of tests. restic picks scrypt parameters so that each of its processes derives for half a second;
// with a key that derives in a millisecond, and opens the same repository with the same password, tests take a tenth of the time.
// The key file's format: restic's doc/design.rst ("Keys, Encryption and MAC").
import { createCipheriv, createDecipheriv, createHash, randomBytes, scryptSync } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

type KeyFile = { kdf: 'scrypt'; N: number; r: number; p: number; salt: string; data: string }

/** Gives the key of a local repository that the password opens cheap parameters; the password stays. */
export function cheapen(repository: string, password: string): void {
  const { file, key, master } = find(repository, password)
  write(repository, key, password, master)
  fs.rmSync(file, { force: true })
}

/** Adds a cheap key for another password, as `restic key add` adds one that takes seconds. */
export function addCheap(repository: string, password: string, another: string): void {
  const { key, master } = find(repository, password)
  write(repository, key, another, master)
}

function find(repository: string, password: string): { file: string; key: KeyFile; master: Buffer } {
  const folder = path.join(repository, 'keys')
  for (const name of fs.readdirSync(folder)) {
    const file = path.join(folder, name)
    const key = JSON.parse(fs.readFileSync(file, 'utf8')) as KeyFile
    const master = open(derive(password, key), Buffer.from(key.data, 'base64'))
    if (master) return { file, key, master }
  }
  throw new Error(`no key in ${folder} that the password opens`)
}

function write(repository: string, key: KeyFile, password: string, master: Buffer): void {
  const cheap = { ...key, N: 2, r: 1, p: 1, salt: randomBytes(64).toString('base64') }
  const text = JSON.stringify({ ...cheap, data: seal(derive(password, cheap), master).toString('base64') })
  const name = createHash('sha256').update(text).digest('hex')
  fs.writeFileSync(path.join(repository, 'keys', name), text, { mode: 0o400 })
}

const derive = (password: string, { N, r, p, salt }: Pick<KeyFile, 'N' | 'r' | 'p' | 'salt'>) =>
  scryptSync(password, Buffer.from(salt, 'base64'), 64, { N, r, p, maxmem: 256 * N * r + (1 << 20) })

function open(key: Buffer, sealed: Buffer): Buffer | undefined {
  const iv = sealed.subarray(0, 16)
  const text = sealed.subarray(16, -16)
  if (!mac(key, iv, text).equals(sealed.subarray(-16))) return undefined
  const decipher = createDecipheriv('aes-256-ctr', key.subarray(0, 32), iv)
  return Buffer.concat([decipher.update(text), decipher.final()])
}

function seal(key: Buffer, text: Buffer): Buffer {
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-256-ctr', key.subarray(0, 32), iv)
  const sealed = Buffer.concat([cipher.update(text), cipher.final()])
  return Buffer.concat([iv, sealed, mac(key, iv, sealed)])
}

/** Poly1305-AES: the one-time pad is the nonce, encrypted. */
function mac(key: Buffer, nonce: Buffer, text: Buffer): Buffer {
  const cipher = createCipheriv('aes-128-ecb', key.subarray(32, 48), null).setAutoPadding(false)
  const pad = little(cipher.update(nonce))
  const r = little(key.subarray(48, 64)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn
  const prime = 2n ** 130n - 5n
  let sum = 0n
  for (let at = 0; at < text.length; at += 16) sum = ((sum + little(Buffer.concat([text.subarray(at, at + 16), Buffer.of(1)]))) * r) % prime
  const tag = (sum + pad) % 2n ** 128n
  return Buffer.from(tag.toString(16).padStart(32, '0'), 'hex').reverse()
}

const little = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
