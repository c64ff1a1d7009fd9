import assert from 'node:assert/strict'
import { test } from 'node:test'
import { classOf, saidBy } from '../lib/engine/restic/errors.ts'
import type { Class } from '../lib/failure.ts'

test('a number in a path is no answer of a server, and an answer of a server is one', () => {
  const cases: [string, Class][] = []
  for (const number of [401, 403, 502, 503, 504]) {
    const path = `/tmp/${number}/repo`
    cases.push(
      [`Fatal: unable to open config file: stat ${path}/config: no such file or directory\nIs there a repository at ${path}?`, 'missing'],
      [`Fatal: open ${path}/keys: permission denied`, 'permission'],
      [`Load(<data/${number}>, 0, 0) failed: ciphertext verification failed`, 'damaged'],
      [`error: file ${number} of 600: something else`, 'tool'],
      [`Fatal: cannot read '${number}': Error of ${number}`, 'tool'],
    )
  }
  const answers: [number, string, Class][] = [
    [401, 'Unauthorized', 'auth'],
    [403, 'Forbidden', 'auth'],
    [502, 'Bad Gateway', 'unreachable'],
    [503, 'Service Unavailable', 'unreachable'],
    [504, 'Gateway Timeout', 'unreachable'],
  ]
  for (const [number, reason, kind] of answers) {
    for (const text of [
      `Fatal: unable to open config file: unexpected HTTP response (${number}): ${number} ${reason}`,
      `Fatal: create key: server response unexpected: ${number} ${reason} (${number})`,
      `server response unexpected: ${number} (${number})`,
      `Stat(<config/>) failed: googleapi: Error ${number}: no, retrying`,
      `googleapi: got HTTP response code ${number} with body: `,
      `HTTP Error: ${number}: no`,
      `RESPONSE ${number}: no`,
      `StatusCode=${number}, ErrorCode=x`,
      `b2_authorize_account: ${number}: no`,
      `status code: ${number}, request id: x`,
      `rclone: HTTP/1.1 ${number}`,
    ])
      cases.push([text, kind])
  }
  for (const [stderr, kind] of cases) assert.equal(classOf(1, stderr), kind, stderr)
})

test('what is reported is a sentence of restic, and never a line of a Go stack', () => {
  const stack = [
    'goroutine 1 [running]:',
    'github.com/restic/restic/internal/repository.(*Repository).LoadBlob(0xc0001, {0x1, 0x2})',
    '\tgithub.com/restic/restic/internal/repository/repository.go:123 +0x1d',
    'main.main()',
    '/build/cmd/restic/main.go:99',
    'runtime.goexit',
    '\truntime/asm_amd64.s:1598',
    'created by main.init.0 in goroutine 5',
  ].join('\n')
  const cases: [string, string][] = [
    [`panic: runtime error: index out of range\n\n${stack}\n`, 'panic: runtime error: index out of range'],
    [`${stack}\nthe store is odd\n`, 'the store is odd'],
    [`Fatal: the store is odd\n${stack}\n`, 'the store is odd'],
    [`${JSON.stringify({ message_type: 'exit_error', code: 1, message: `Fatal: the store is odd\n${stack}` })}\n`, 'the store is odd'],
    [`${stack}\n`, ''],
    ['first\nlast\n', 'last'],
  ]
  for (const [stderr, said] of cases) assert.equal(saidBy(stderr), said, stderr)
})
