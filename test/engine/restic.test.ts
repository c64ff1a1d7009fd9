// The contract of engines, on restic in each version.
import { spawn } from 'node:child_process'
import { machine, newTarget, restic, restics } from '../harness.ts'
import { makeStore } from '../store.ts'
import { contract } from './contract.ts'

for (const version of restics()) {
  contract({
    name: `restic ${version.version}`,
    machine: (t) => machine(t, version),
    target: newTarget,
    locks: async (house, target) => (await restic(house, target, ['list', 'locks', '--no-lock'])).lines.length,
    store: makeStore,
    // A backup that waits for stdin holds a shared lock, which keeps the exclusive one of a check out.
    async hold(house, target) {
      const env = { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: house.cache }
      const holder = spawn(version.path, ['backup', '--stdin'], { env, stdio: ['pipe', 'ignore', 'ignore'] })
      house.t.after(() => holder.kill('SIGKILL'))
      for (let i = 0; i < 100; i++) {
        if ((await restic(house, target, ['list', 'locks', '--no-lock'])).lines.length > 0) return
      }
      throw new Error('the lock was not taken')
    },
  })
}
