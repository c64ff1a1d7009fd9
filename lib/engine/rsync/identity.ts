// Which store lies there: the id in its kedge-store.json, against the one that init pinned.
import type { VerbOf } from '../../contract.ts'
import { openStore, storeFile, storeOf } from './store.ts'
import { explain } from './tool.ts'

const identity: VerbOf<'identity'> = async function* (target, _, context) {
  if (context.mode === 'explain') {
    yield explain(target, ['cat', storeFile(target)])
    return
  }
  const { id } = openStore(target)
  yield { kind: 'store', target: target.name, id, store: storeOf(target), created: false }
}
export default identity
