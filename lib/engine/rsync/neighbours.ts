// The other targets of this configuration whose folders lie in the same store, or that show what lies there.
import type { Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { loadTarget, targetNames } from '../../target.ts'
import { ownersOf, rootOf, storeOf } from './store.ts'

/** Those that can be read: what is wrong with another target is its own news. */
async function neighboursOf(target: Target): Promise<Target[]> {
  const found: Target[] = []
  for (const name of await targetNames()) {
    if (name === target.name) continue
    try {
      const other = await loadTarget(name)
      if (other.engine === target.engine && other.env.STORE && storeOf(other) === storeOf(target)) found.push(other)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
    }
  }
  return found
}

/** Failure `refused` where another target counts the folder as its own: after a rename it holds what that one saved before. */
export async function refuseClaimed(target: Target): Promise<void> {
  const other = (await neighboursOf(target)).find((each) => ownersOf(each).includes(target.name))
  if (!other) return
  throw new Failure(
    'refused',
    `refusing to use '${rootOf(target)}': what lies there is of target '${other.name}', as its SNAPSHOTS_OF says`,
    {
      hint: `take another name, or another store; 'kedge rename' gave '${other.name}' its name`,
    },
  )
}

/** The owners whose snapshots are the target's to prune: those of a target that lives here go by its own keep rules. */
export async function prunedOwners(target: Target, log: (message: string) => void): Promise<string[]> {
  const living = (await neighboursOf(target)).filter((other) => ownersOf(other).includes(other.name)).map(({ name }) => name)
  const owners = ownersOf(target)
  const left = owners.filter((owner) => living.includes(owner))
  if (left.length > 0) log(`the snapshots of ${left.map((name) => `'${name}'`).join(', ')} are left alone: it is a target of its own`)
  return owners.filter((owner) => !left.includes(owner))
}
