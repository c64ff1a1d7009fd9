// Not there yet.
import type { Unsupported } from '../../contract.ts'

const prune: Unsupported = { instead: 'not there yet' }
export default prune
