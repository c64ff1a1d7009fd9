// Not there yet.
import type { Unsupported } from '../../contract.ts'

const hold: Unsupported = { instead: 'not there yet' }
export default hold
