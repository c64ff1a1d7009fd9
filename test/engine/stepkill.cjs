// Preloaded into kedge by the crash tests: kedge kills itself, as kill -9 does, before its KILL_AT-th act on the file system below
// KILL_BELOW. Each act is a line of KILL_LOG, so that a run that is not killed tells how many there are.
const fs = require('node:fs')

const { KILL_BELOW: below, KILL_AT: at, KILL_LOG: log } = process.env
const { appendFileSync } = fs
const names = [
  'open',
  'mkdir',
  'rename',
  'rm',
  'rmdir',
  'symlink',
  'link',
  'unlink',
  'writeFile',
  'appendFile',
  'utimes',
  'chmod',
  'copyFile',
]
let acts = 0

function watch(where, name, act) {
  where[name] = (...args) => {
    if (args.some((arg) => typeof arg === 'string' && arg.startsWith(below)) && !(/^open/.test(name) && /^r?$/.test(args[1] ?? 'r'))) {
      acts++
      if (acts === Number(at)) process.kill(process.pid, 'SIGKILL')
      appendFileSync(log, `${name} ${args.filter((arg) => typeof arg === 'string' && arg.startsWith('/')).join(' ')}\n`)
    }
    return act.apply(where, args)
  }
}

for (const name of names) {
  watch(fs.promises, name, fs.promises[name])
  watch(fs, `${name}Sync`, fs[`${name}Sync`])
}
