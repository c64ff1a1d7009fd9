import { restics } from '../harness.ts'
import { resticContract } from './resticcontract.ts'

for (const version of restics().slice(1, -1)) resticContract(version)
