// restic's patterns (Go's filepath.Match, with ** for any depth): a path as a pattern that matches nothing but it.

export const literal = (path: string): string => path.replace(/[\\*?[]/g, '\\$&')
