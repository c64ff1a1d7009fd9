// The contract of engines on rsync, in each version.
import { rsyncs } from '../harness.ts'
import { contract } from './contract.ts'
import { rsyncBench } from './rsyncbench.ts'

for (const version of rsyncs()) contract(rsyncBench(version))
