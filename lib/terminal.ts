// Questions on the terminal itself: stdin may be a pipe. While a secret is typed nothing is echoed, and the terminal gets its
// state back on every way out.
import { closeSync, openSync, writeSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { ReadStream } from 'node:tty'
import { Cancelled, Failure } from './failure.ts'
import { harmless } from './format.ts'

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const

/**
 * The line that is typed in answer, without its line feed. `hidden`: echo off. Rejects with Cancelled on a signal or ^C, with the
 * reason of an aborted signal, and with Failure 'misuse' for ^D on an empty line and where there is no terminal.
 */
export async function ask(question: string, options: { hidden?: boolean; signal?: AbortSignal } = {}): Promise<string> {
  options.signal?.throwIfAborted()
  const shown = harmless(question.trimEnd())
  const screen = openTerminal(shown)
  try {
    const keyboard = new ReadStream(openTerminal(shown))
    try {
      return await readLine(keyboard, { shown, screen, hidden: options.hidden === true, signal: options.signal })
    } finally {
      keyboard.setRawMode(false)
      keyboard.destroy()
    }
  } finally {
    closeSync(screen)
  }
}

function openTerminal(shown: string): number {
  try {
    return openSync('/dev/tty', 'r+')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENXIO' && code !== 'ENOENT' && code !== 'EACCES' && code !== 'EIO') throw error
    throw new Failure('misuse', `cannot ask '${shown}': there is no terminal`, { cause: error })
  }
}

type Asking = { shown: string; screen: number; hidden: boolean; signal: AbortSignal | undefined }

// What is not hidden stays with the terminal's own line editing, which knows how wide characters are.
function readLine(keyboard: ReadStream, { shown, screen, hidden, signal }: Asking): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const line = createLine()
    const decoder = new StringDecoder('utf8')
    let left = false
    // Where the terminal did not echo the end of the line, what comes next must not stand behind the question.
    const leave = (settle: () => void, echoed = false) => {
      if (left) return
      left = true
      for (const name of signals) process.off(name, stopped)
      signal?.removeEventListener('abort', aborted)
      if (!echoed) tell(screen, '\n')
      settle()
    }
    const stopped = (name: NodeJS.Signals) => leave(() => reject(new Cancelled(name)))
    const aborted = () => leave(() => reject(signal?.reason))
    const ended = (echoed = false) => leave(() => resolve(line.text()), echoed)
    const nothing = () => leave(() => reject(new Failure('misuse', `no answer to '${shown}'`)))
    for (const name of signals) process.on(name, stopped)
    signal?.addEventListener('abort', aborted)
    keyboard.on('error', (cause) => leave(() => reject(new Failure('misuse', `cannot ask '${shown}': the terminal is gone`, { cause }))))
    keyboard.on('end', () => (line.text() === '' ? nothing() : ended()))
    keyboard.on('data', (chunk: Buffer) => {
      const state = line.type(decoder.write(chunk))
      if (state === 'interrupted') stopped('SIGINT')
      else if (state === 'empty') nothing()
      else if (state === 'ended') ended(!hidden)
    })
    if (hidden) keyboard.setRawMode(true)
    tell(screen, `${shown} `)
  })
}

// A terminal that hung up takes no more text; its reading end reports that.
function tell(screen: number, text: string): void {
  try {
    writeSync(screen, text)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error
  }
}

/** A line as it is typed: the editing that the terminal does not do while its echo is off. Pure. */
export function createLine() {
  let typed: string[] = []
  let key = ''
  return {
    text: () => typed.join(''),
    type(text: string): 'more' | 'ended' | 'empty' | 'interrupted' {
      for (const char of text) {
        if (key && char >= ' ') {
          // An arrow or function key: ESC and a letter, or ESC [ (or O), parameters, and a letter or ~.
          key += char
          if (!/^\x1b[[O][0-9;?<=>]*$/.test(key)) key = ''
          continue
        }
        key = ''
        if (char === '\r' || char === '\n') return 'ended'
        else if (char === '\x03') return 'interrupted'
        else if (char === '\x04') {
          if (typed.length === 0) return 'empty'
        } else if (char === '\x7f' || char === '\b') typed.pop()
        else if (char === '\x15') typed = []
        else if (char === '\x17') typed = [...typed.join('').replace(/\S*\s*$/, '')]
        else if (char === '\x1b') key = char
        else if (char >= ' ') typed.push(char)
      }
      return 'more'
    },
  }
}
