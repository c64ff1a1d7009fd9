// Writes the completions of the kedge that is built in a folder, into completions/ below it.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bash } from './bash.mjs'
import { fish } from './fish.mjs'
import { ksh } from './ksh.mjs'
import { model } from './model.mjs'
import { zsh } from './zsh.mjs'

// Named as the shells look for them: bash by the command, zsh with _ before it.
const files = { 'kedge.bash': bash, _kedge: zsh, 'kedge.fish': fish, 'kedge.ksh': ksh }

export async function writeCompletions(dist) {
  const found = model(dist)
  await mkdir(join(dist, 'completions'), { recursive: true })
  for (const [name, write] of Object.entries(files)) await writeFile(join(dist, 'completions', name), write(found))
}
