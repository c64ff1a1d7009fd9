// A mail server for the tests: it takes what is sent to it and keeps it. With STARTTLS or with TLS from the first byte, and with logins.
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import type { AddressInfo, Socket } from 'node:net'
import { createServer, isIP } from 'node:net'
import path from 'node:path'
import type { TestContext } from 'node:test'
import tls from 'node:tls'

export type Certificate = { key: string; cert: string; file: string }

/** A certificate that signs itself, for localhost and 127.0.0.1 unless another name or address is given. */
export function certificate(dir: string, name = 'localhost'): Certificate {
  const [key, cert] = [path.join(dir, `${name}.key`), path.join(dir, `${name}.pem`)]
  const names = name === 'localhost' ? 'DNS:localhost,IP:127.0.0.1' : `${isIP(name) ? 'IP' : 'DNS'}:${name}`
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  execFileSync('openssl', [...request, '-keyout', key, '-out', cert, '-subj', `/CN=${name}`, '-addext', `subjectAltName=${names}`], {
    stdio: 'ignore',
  })
  return { key: fs.readFileSync(key, 'utf8'), cert: fs.readFileSync(cert, 'utf8'), file: cert }
}

export type Letter = { from: string; to: string[]; text: string; tls: boolean; login: string | undefined }
export type MailServer = {
  port: number
  letters: Letter[] /** Every line that clients sent. */
  lines: string[]
  connections: () => number
}
type Options = {
  tls?: 'starttls' | 'implicit' | 'none'
  certificate?: Certificate
  /** user:password; nobody may send without. */
  login?: string
  /** An answer in place of the usual one, by command: `DATA` is the end of the message. Undefined is the usual one. */
  answer?: (command: string, times: number) => string | undefined
  /** Says nothing at all. */
  mute?: boolean
}

/** Serves until the test is over. */
export async function mailServer(t: TestContext, options: Options = {}): Promise<MailServer> {
  const letters: Letter[] = []
  const lines: string[] = []
  const sockets = new Set<Socket>()
  const times = new Map<string, number>()
  let connections = 0
  const answered = (command: string) => {
    times.set(command, (times.get(command) ?? 0) + 1)
    return options.answer?.(command, times.get(command) ?? 0)
  }
  const secureContext = options.certificate && tls.createSecureContext(options.certificate)
  const talk = (socket: Socket, encrypted: boolean, greet: boolean) => {
    let rest = ''
    let letter: Letter = { from: '', to: [], text: '', tls: encrypted, login: undefined }
    let inData = false
    let login: string | undefined
    const say = (text: string) => socket.write(`${text}\r\n`)
    socket.on('error', () => undefined)
    if (options.mute) return
    if (greet) say(answered('CONNECT') ?? '220 catcher')
    const onData = (chunk: Buffer) => {
      rest += chunk.toString('utf8')
      for (;;) {
        const end = rest.indexOf('\r\n')
        if (end < 0) return
        const line = rest.slice(0, end)
        rest = rest.slice(end + 2)
        lines.push(line)
        if (inData) {
          if (line !== '.') {
            letter.text += `${line.replace(/^\./, '')}\n`
            continue
          }
          inData = false
          const answer = answered('DATA')
          if (!answer) letters.push(letter)
          say(answer ?? '250 taken')
          letter = { from: '', to: [], text: '', tls: encrypted, login }
          continue
        }
        const [, verb = '', words = ''] = /^(\w+) ?(.*)$/.exec(line) ?? []
        const command = verb.toUpperCase()
        const own = command === 'DATA' ? undefined : answered(command)
        if (own) say(own)
        else if (command === 'EHLO') {
          say('250-catcher')
          if (options.tls === 'starttls' && !encrypted) say('250-STARTTLS')
          if (options.login) say('250-AUTH PLAIN')
          say('250 SIZE 1000000')
        } else if (command === 'STARTTLS') {
          say('220 go ahead')
          socket.off('data', onData)
          const secure = new tls.TLSSocket(socket, { isServer: true, ...(secureContext && { secureContext }) })
          return talk(secure, true, false)
        } else if (command === 'AUTH') {
          const [, user = '', password = ''] = Buffer.from(words.split(' ')[1] ?? '', 'base64')
            .toString()
            .split('\0')
          if (`${user}:${password}` === options.login) {
            login = user
            letter.login = user
            say('235 welcome')
          } else say('535 5.7.8 wrong user or password')
        } else if (command === 'MAIL' && options.login && !login) say('530 5.7.0 log in first')
        else if (command === 'MAIL') {
          letter.from = /<([^>]*)>/.exec(words)?.[1] ?? ''
          say('250 ok')
        } else if (command === 'RCPT') {
          letter.to.push(/<([^>]*)>/.exec(words)?.[1] ?? '')
          say('250 ok')
        } else if (command === 'DATA') {
          inData = true
          say('354 go on')
        } else if (command === 'QUIT') {
          say('221 bye')
          socket.end()
        } else say('250 ok')
      }
    }
    socket.on('data', onData)
  }
  const accept = (socket: Socket, encrypted: boolean) => {
    connections++
    sockets.add(socket)
    socket.on('error', () => undefined)
    talk(socket, encrypted, true)
  }
  const server =
    options.tls === 'implicit'
      ? tls.createServer({ ...options.certificate }, (socket) => accept(socket, true))
      : createServer((socket) => accept(socket, false))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, letters, lines, connections: () => connections }
}
