// The known word that a mistyped one most likely meant: pure.

/** Undefined where none is near: one that has no letter in common with it is not, however short both are. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let least = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const alike = candidate.toLowerCase() === word.toLowerCase() || (candidate.startsWith(word) && word.length > 2)
    const d = alike ? 1 : distance(word, candidate)
    if (d < least && (alike || d < Math.max(word.length, candidate.length))) [best, least] = [candidate, d]
  }
  return best
}

// Optimal string alignment: two letters swapped are one mistake.
function distance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min((next[j - 1] ?? 0) + 1, (row[j] ?? 0) + 1, (row[j - 1] ?? 0) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, (before[j - 2] ?? 0) + 1)
      next.push(least)
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}
