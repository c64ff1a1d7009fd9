// What came of a file that rsync told of. Its line has the size of the list that was made before: the file may have grown since, or
// have been cut, and rsync takes what is there when it reads (its md5 is of what it wrote, and the mtime that of the list).
import { lstatSync } from 'node:fs'
import { type Line, pathBytes } from './manifest.ts'

/** Gives the line the size that the file in the tree has. */
export function asLanded(tree: string, line: Line): 'as listed' | 'altered' | 'gone' {
  const path =
    line.path.includes('\\') || /[^\x20-\x7e]/.test(line.path)
      ? Buffer.concat([Buffer.from(`${tree}/`), pathBytes(line.path)])
      : `${tree}/${line.path}`
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (!found) return 'gone'
  if (found.size === line.size) return 'as listed'
  line.size = found.size
  return 'altered'
}
