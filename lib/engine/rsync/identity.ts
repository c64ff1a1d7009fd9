// Not there yet.
import type { Unsupported } from '../../contract.ts'

const identity: Unsupported = { instead: 'not there yet' }
export default identity
