import { newest } from '../harness.ts'
import { resticContract } from './resticcontract.ts'

resticContract(newest())
