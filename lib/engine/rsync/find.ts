// Not there yet.
import type { Unsupported } from '../../contract.ts'

const find: Unsupported = { instead: 'not there yet' }
export default find
