// Streams: executables whose output is saved. What they see, and what their end means, is the same for each engine.
import { answer } from '../child.ts'
import type { RunContext, Target } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { words } from '../keys.ts'
import type { Summary } from '../rows.ts'

export type Stream = { readonly name: string; readonly file: string }

/** A stream sees the caller's harmless variables, PASS_ENV, the target's name, and the secrets that STREAM_SECRETS names: never the store's. */
export function streamEnv(target: Target, context: Pick<RunContext, 'secrets'>): Record<string, string> {
  const named = words(target.env.STREAM_SECRETS).map((key) => [key, context.secrets[key]] as const)
  for (const [key, value] of named)
    if (value === undefined) throw new Failure('config', `STREAM_SECRETS names '${key}', which is not among the secrets`)
  return { ...callerEnv(words(target.env.PASS_ENV)), KEDGE_TARGET: target.name, ...(Object.fromEntries(named) as Record<string, string>) }
}

export const failedProducer = ({ name, file }: Stream, status: number, stderr: string): Failure =>
  new Failure('tool', `cannot save stream '${name}': ${file} ended with status ${status}: ${stderr.trim().split('\n').at(-1) ?? ''}`, {
    hint: 'its half output was not kept',
  })

export const emptyOutput = ({ name, file }: Stream): Failure =>
  new Failure('tool', `cannot save stream '${name}': its output was empty`, { hint: `${file} ended well, but wrote nothing` })

/** A dry run of a stream: the producer runs, its bytes are counted and thrown away. */
export async function countStream(target: Target, stream: Stream, context: RunContext): Promise<Summary> {
  const started = Date.now()
  // wc counts, so that the bytes do not pass through kedge; the producer's status is told on stderr's last line.
  const script = '{ "$0"; echo "status $?" >&2; } | wc -c'
  const made = await answer(['/bin/sh', '-c', script, stream.file], { env: streamEnv(target, context), signal: context.signal, timeout: 0 })
  const [, status] = /status (\d+)\n$/.exec(made.stderr) ?? []
  if (status !== '0')
    throw new Failure('tool', `cannot save stream '${stream.name}': ${stream.file} ended with status ${status ?? made.status}`)
  if (Number(made.stdout) === 0) throw emptyOutput(stream)
  const seconds = Math.round((Date.now() - started) / 100) / 10
  return {
    kind: 'summary',
    target: target.name,
    snapshot: '',
    stream: stream.name,
    files: 1,
    bytes: Number(made.stdout),
    added: 0,
    seconds,
    dryRun: true,
  }
}

/** Saves each; a dump that fails must not keep the next one from being saved, and the first one's class is the run's. */
export async function* eachStream(
  streams: readonly Stream[],
  context: Pick<RunContext, 'signal' | 'log'>,
  save: (stream: Stream) => Promise<Summary>,
): AsyncGenerator<Summary> {
  const failures: Failure[] = []
  for (const stream of streams) {
    try {
      yield await save(stream)
    } catch (error) {
      if (!(error instanceof Failure) || context.signal.aborted) throw error
      failures.push(error)
      context.log(`stream '${stream.name}': ${error.message}`)
    }
  }
  const [first, ...more] = failures
  if (first && more.length > 0)
    throw new Failure(first.class, `${failures.length} streams failed: ${failures.map((each) => each.message).join('; ')}`)
  if (first) throw first
}
