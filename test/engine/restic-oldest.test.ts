// A file a version: one for all would be the longest of the tests by far.
import { type Restic, restics } from '../harness.ts'
import { resticContract } from './resticcontract.ts'

resticContract(restics()[0] as Restic)
