// Not there yet.
import type { Unsupported } from '../../contract.ts'

const restore: Unsupported = { instead: 'not there yet' }
export default restore
