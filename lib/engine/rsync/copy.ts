// Not there yet.
import type { Unsupported } from '../../contract.ts'

const copy: Unsupported = { instead: 'not there yet' }
export default copy
