// Symmetric OpenPGP messages, read and written in memory: no gpg, no agent. The package is loaded when it is used.

/** What stands before the data of a message, read from its packet headers alone (RFC 9580, 4.2 and 5). */
export type Header = {
  /** The keys for which the session key is there: their ids, or the fingerprints of version 6; zeros for a hidden one. */
  keys: string[]
  /** For how many passphrases it is there. */
  passphrases: number
  /** OpenPGP.js can open it: it knows every cipher named, and the data is protected against changes. */
  openable: boolean
}

const tags = { publicSessionKey: 1, passphraseSessionKey: 3, marker: 10, protectedData: 18, aeadData: 20, padding: 21 }
// 3DES, CAST5, Blowfish, AES, Twofish (RFC 9580, 9.3). OpenPGP.js has neither IDEA (1) nor Camellia (11 to 13).
const ciphers = new Set([2, 3, 4, 7, 8, 9, 10])

/** The bytes of a message that may be ASCII-armored; undefined where it is neither armored nor binary OpenPGP. */
export function binary(message: Uint8Array): Uint8Array | undefined {
  if (((message[0] ?? 0) & 0x80) !== 0) return message
  const lines = Buffer.from(message).toString('latin1').split(/\r?\n/)
  const begin = lines.findIndex((line) => line.trimEnd() === '-----BEGIN PGP MESSAGE-----')
  if (begin < 0) return undefined
  const body = lines.findIndex((line, index) => index > begin && line.trim() === '')
  const end = lines.findIndex((line, index) => index > body && /^[=-]/.test(line))
  return body < 0 || end < 0 ? undefined : Buffer.from(lines.slice(body, end).join(''), 'base64')
}

/** Reads the header of a binary message; undefined where it is not encrypted, or not OpenPGP. */
export function header(message: Uint8Array): Header | undefined {
  const found: Header = { keys: [], passphrases: 0, openable: true }
  for (let at = 0; ; ) {
    const packet = packetAt(message, at)
    if (!packet) return undefined
    const { tag, body, end } = packet
    if (tag === tags.publicSessionKey) found.keys.push(keyOf(message, body))
    else if (tag === tags.passphraseSessionKey) {
      found.passphrases++
      // Versions 4 and 5 name the cipher second; 6 has a length there first (RFC 9580, 5.3).
      const cipher = message[body + (message[body] === 6 ? 2 : 1)] ?? 0
      found.openable &&= ciphers.has(cipher)
    } else if (tag !== tags.marker && tag !== tags.padding) {
      if (found.keys.length + found.passphrases === 0) return undefined
      found.openable &&= tag === tags.protectedData || tag === tags.aeadData
      return found
    }
    if (end === undefined || end <= at) return undefined
    at = end
  }
}

/** Version 3 has the id of the key; 6 the length and the version of its fingerprint, and that (RFC 9580, 5.1). */
function keyOf(message: Uint8Array, body: number): string {
  const [from, size] = message[body] === 6 ? [body + 3, Math.max(0, (message[body + 1] ?? 0) - 1)] : [body + 1, 8]
  return Buffer.from(message.subarray(from, from + size))
    .toString('hex')
    .toUpperCase()
}

/** The packet that begins at `at`: its tag, where its body begins, and its end; data of unknown length has none. */
function packetAt(message: Uint8Array, at: number): { tag: number; body: number; end: number | undefined } | undefined {
  const first = message[at]
  if (first === undefined || (first & 0x80) === 0) return undefined
  const view = Buffer.from(message.buffer, message.byteOffset, message.byteLength)
  const sized = (tag: number, bytes: number, size?: number) => {
    const body = at + 1 + bytes
    if (body > message.length) return undefined
    return { tag, body, end: bytes === 0 ? undefined : body + (size ?? view.readUIntBE(body - bytes, bytes)) }
  }
  if ((first & 0x40) === 0) return sized((first >> 2) & 15, [1, 2, 4, 0][first & 3] ?? 0)
  const tag = first & 63
  const length = message[at + 1] ?? 255
  if (length < 192) return sized(tag, 1)
  if (length < 224) return sized(tag, 2, ((length - 192) << 8) + (message[at + 2] ?? 0) + 192)
  if (length < 255) return { tag, body: at + 2, end: undefined }
  const body = at + 6
  return body > message.length ? undefined : { tag, body, end: body + view.readUInt32BE(at + 2) }
}

/**
 * The content of a binary symmetric message, or undefined where the passphrase does not open it: OpenPGP cannot tell a wrong
 * passphrase from damage. About 100 MB for the moment, a tenth to a quarter of a second; no reference is kept.
 */
export async function openSymmetric(message: Uint8Array, passphrase: string): Promise<Uint8Array | undefined> {
  const openpgp = await import('openpgp')
  const parsed = await openpgp.readMessage({ binaryMessage: new Uint8Array(message) }).catch(unlessOpenpgp)
  if (!parsed) return undefined
  const opened = await openpgp.decrypt({ message: parsed, passwords: [passphrase], format: 'binary' }).catch(unlessOpenpgp)
  return opened?.data
}

// OpenPGP.js has no error classes: what its packets refuse begins with these words.
function unlessOpenpgp(error: Error): undefined {
  if (/^(Error decrypting message|Parsing \w+ failed|Unexpected end of packet|Error during parsing)/.test(error.message)) return undefined
  throw error
}

/**
 * A binary message that gpg 2.2 opens as well: no AEAD and no Argon2, which it does not know, and gpg's own count of hashed
 * bytes (65,011,712), four times that of OpenPGP.js, since a passphrase made by a person needs it.
 */
export async function sealSymmetric(content: Uint8Array, passphrase: string): Promise<Uint8Array> {
  const openpgp = await import('openpgp')
  const message = await openpgp.createMessage({ binary: new Uint8Array(content) })
  return openpgp.encrypt({
    message,
    passwords: [passphrase],
    format: 'binary',
    config: { aeadProtect: false, s2kType: openpgp.enums.s2k.iterated, s2kIterationCountByte: 255 },
  })
}
