// Not there yet.
import type { Unsupported } from '../../contract.ts'

const cat: Unsupported = { instead: 'not there yet' }
export default cat
