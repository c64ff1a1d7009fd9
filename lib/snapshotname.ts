// How an operator names a snapshot and a path in it: pure.
import { Failure } from './failure.ts'

/** 'ID', 'ID:/path', 'latest:/path' -> its parts; a path alone means latest. */
export function splitName(text: string): { snapshot: string; path?: string } {
  const at = text.indexOf(':')
  if (text.startsWith('/')) return { snapshot: 'latest', path: text }
  if (at < 0) return { snapshot: text }
  const path = text.slice(at + 1)
  if (!path.startsWith('/')) throw new Failure('misuse', `not an absolute path in '${text}': '${path}'`)
  return { snapshot: text.slice(0, at) || 'latest', path: path.length > 1 ? path.replace(/\/+$/, '') : path }
}
