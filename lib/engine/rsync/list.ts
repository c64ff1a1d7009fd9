// Not there yet.
import type { Unsupported } from '../../contract.ts'

const list: Unsupported = { instead: 'not there yet' }
export default list
