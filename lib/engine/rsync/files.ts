// What a snapshot holds: its manifest, with flat memory.
import type { VerbOf, Verbs } from '../../contract.ts'
import type { CommandLine } from '../../rows.ts'
import { quote, quoteBytes } from '../../shell.ts'
import { absent, locate, pathOf, seenFrom } from './located.ts'
import { readManifest, toEntry } from './manifest.ts'
import { chosen, type Found, manifestOf } from './snapshots.ts'

type Options = Verbs['files']['options']

const files: VerbOf<'files'> = async function* (target, options, context) {
  const { snapshot, path = '/', here } = options
  const found = await chosen(target, snapshot, context, options.path)
  if (context.mode === 'explain') {
    yield byHand(found, (await locate(found, path)).path, here)
    return
  }
  const where = seenFrom(path)
  const depth = depthOf(path)
  let there = path === '/'
  const wanted = (text: string): boolean => {
    const seen = where(text)
    if (seen === 'itself') there = true
    return seen === 'itself' ? !here && path !== '/' : seen === 'below' && (!here || depthOf(`/${pathOf(text)}`) === depth + 1)
  }
  for await (const lines of readManifest(manifestOf(found), wanted)) {
    context.signal.throwIfAborted()
    if (lines.length > 0) yield lines.map(toEntry)
  }
  if (!there) throw absent(found, path)
}
export default files

const depthOf = (path: string): number => (path === '/' ? 0 : path.split('/').length - 1)

/** `at`: the path as the manifest has it. */
export function byHand(found: Found, at: string, here: Options['here']): CommandLine {
  const below = at === '.' ? '$1 != "."' : 'index($1, ENVIRON["at"] "/") == 1'
  const depth = at === '.' ? 1 : at.split('/').length + 1
  const which = here ? `${below} && split($1, names, "/") == ${depth}` : at === '.' ? below : `${below} || $1 == ENVIRON["at"]`
  const start = at === '.' ? 'LC_ALL=C' : `LC_ALL=C at=${quoteBytes(Buffer.from(at, 'latin1'))}`
  return { kind: 'command', command: `${start} awk -F '\\t' ${quote(`NR > 1 && (${which})`)} ${quote(manifestOf(found))}` }
}
