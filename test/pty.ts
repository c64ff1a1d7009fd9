// A terminal of its own for a test: script(1) runs a sh session in it, the test types and reads the screen.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import type { Machine } from './harness.ts'

export type Terminal = {
  type: (text: string) => void
  /** Waits until the screen shows the text, so many times; fails where the session ends without. */
  until: (text: string, times?: number) => Promise<void>
  /** All that was on the screen, once the session is over. */
  end: () => Promise<string>
}

/** The lines are sh; `kedge` in them is the built one. */
export function terminal(m: Machine, dist: string, lines: readonly string[], env: Record<string, string> = {}): Terminal {
  const session = path.join(m.dir, `session-${process.hrtime.bigint()}`)
  const kedge = `kedge() { ${process.execPath} ${path.join(dist, 'kedge.cjs')} "$@"; }`
  fs.writeFileSync(session, ['trap : INT', kedge, ...lines].join('\n'))
  const child = spawn('script', ['-q', '-e', '-c', `sh ${session}`, '/dev/null'], {
    env: { ...m.env, TERM: 'dumb', SHELL: '/bin/sh', ...env },
    cwd: m.dir,
    stdio: 'pipe',
  })
  m.t.after(() => child.kill('SIGKILL'))
  let screen = ''
  let looks: (() => void)[] = []
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text
    for (const look of looks) look()
  })
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()))
  const until = (text: string, times = 1) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (screen.split(text).length > times) resolve()
      }
      looks = [look]
      look()
      ended.then(() => reject(new Error(`the terminal closed without '${text}':\n${screen}`)))
    })
  return {
    type: (text) => void child.stdin.write(text),
    until,
    async end() {
      await ended
      return screen.replaceAll('\r\n', '\n')
    },
  }
}
