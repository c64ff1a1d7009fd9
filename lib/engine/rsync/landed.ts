// What came of a file that rsync told of. Its line has the size of the list that was made before: the file may have grown since, or
// have been cut, and rsync takes what is there when it reads (its md5 is of what it wrote, and the mtime that of the list).
import { entryAt, statAt } from './entry.ts'
import type { Line } from './manifest.ts'

/** Gives the line the size that the file in the tree has. */
export function asLanded(tree: string, line: Line): 'as listed' | 'altered' | 'gone' {
  const found = statAt(entryAt(tree, line.path))
  if (!found) return 'gone'
  const size = Number(found.size)
  if (size === line.size) return 'as listed'
  line.size = size
  return 'altered'
}
