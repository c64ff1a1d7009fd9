// The guides in docs/: their commands are run as they stand there.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { root } from './harness.ts'

/** The sh blocks of a guide below a heading, up to the next one of the same or a higher level: as one script. */
export function commandsBelow(guide: string, heading: string): string {
  const level = /^#+/.exec(heading)?.[0].length ?? 0
  const found: string[] = []
  let below = false
  let block: string | undefined
  for (const line of fs.readFileSync(path.join(root, 'docs', guide), 'utf8').split('\n')) {
    if (block === undefined && /^#+ /.test(line)) below = line === heading || (below && (/^#+/.exec(line)?.[0].length ?? 0) > level)
    const [, fence] = /^```(\w*)$/.exec(line) ?? []
    if (fence !== undefined) block = block === undefined ? fence : undefined
    else if (below && block === 'sh') found.push(`${line}\n`)
  }
  assert.ok(found.length > 0, `no commands below '${heading}' in ${guide}`)
  return found.join('')
}
