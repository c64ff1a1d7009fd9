// Not there yet.
import type { Unsupported } from '../../contract.ts'

const drill: Unsupported = { instead: 'not there yet' }
export default drill
