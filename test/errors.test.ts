import assert from 'node:assert/strict'
import { test } from 'node:test'
import { classOf, deletionRefusal, failureOf, saidBy } from '../lib/engine/restic/errors.ts'
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

test('who holds the lock is told, by a restic that ends with advice too', () => {
  const stderr = `unable to create lock in backend: repository is already locked exclusively by PID 26535 on vm by root (UID 0, GID 0)
lock was created at 2026-11-20 10:55:51 (39.897639379s ago)
storage ID ac5e0585
the \`unlock\` command can be used to remove stale locks`
  const { class: kind, message } = failureOf("prune '/srv/r'", { status: 1, signal: null, stderr } as Parameters<typeof failureOf>[1])
  assert.equal(kind, 'locked')
  assert.equal(
    message,
    "cannot prune '/srv/r': unable to create lock in backend: repository is already locked exclusively by PID 26535 on vm by root (UID 0, GID 0); lock was created at 2026-11-20 10:55:51 (39.897639379s ago)",
  )
})

test('a store that takes what is new and deletes nothing is told from wrong credentials', () => {
  const cases: [string, string | undefined][] = [
    [
      'Remove(<snapshot/1066b420a7>) failed: unexpected HTTP response (403): 403 Forbidden',
      'unexpected HTTP response (403): 403 Forbidden',
    ],
    [
      'Remove(<snapshot/1066b420a7>) returned error, retrying after 552.330144ms: blob not removed, server response: 403 Forbidden (403)',
      'blob not removed, server response: 403 Forbidden (403)',
    ],
    ['Remove(<data/00112233aa>) failed: client.RemoveObject: Access Denied.', 'client.RemoveObject: Access Denied.'],
    [
      'Remove(<index/00112233aa>) failed: remove /srv/r/index/00: operation not permitted',
      'remove /srv/r/index/00: operation not permitted',
    ],
    ['Remove(<lock/00112233aa>) failed: unexpected HTTP response (403): 403 Forbidden', undefined],
    ['Remove(<data/403>) failed: connection reset by peer', undefined],
    ['Load(<snapshot/1066b420a7>) failed: unexpected HTTP response (403): 403 Forbidden', undefined],
  ]
  for (const [line, cause] of cases) assert.equal(deletionRefusal(line), cause)
  const [[line = ''] = []] = cases
  const failure = failureOf("prune 'rest:http://b1'", { status: 1, signal: null, stderr: `${line}\nFatal: nothing` } as Parameters<
    typeof failureOf
  >[1])
  assert.deepEqual(
    [failure.class, failure.message],
    ['permission', "cannot prune 'rest:http://b1': the store does not let it delete: unexpected HTTP response (403): 403 Forbidden"],
  )
})
