// A web server for the tests: it keeps every request, and answers as it is told.
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

export type Asked = { method: string; path: string; headers: IncomingHttpHeaders; body: string }
type Answer = { status?: number; headers?: Record<string, string>; body?: string; never?: boolean; half?: boolean }

/** Serves until the test is over. `answer` gets the request and its number, from 1. */
export async function webServer(t: TestContext, answer: (asked: Asked, times: number) => Answer = () => ({})) {
  const asked: Asked[] = []
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const each = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(parts).toString('utf8'),
    }
    asked.push(each)
    const { status = 200, headers = {}, body = 'ok', never, half } = answer(each, asked.length)
    if (half) response.writeHead(status, headers).write(body)
    else if (!never) response.writeHead(status, headers).end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()))
  return { asked, url: `http://127.0.0.1:${port}`, close }
}
