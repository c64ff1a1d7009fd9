import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isOnBattery, type Supply } from '../lib/power.ts'

const cases: readonly (readonly [string, readonly Supply[], boolean])[] = [
  ['a server that shows nothing', [], false],
  [
    'a laptop on mains',
    [
      { type: 'Mains', online: '1' },
      { type: 'Battery', status: 'Charging' },
    ],
    false,
  ],
  [
    'a laptop that was unplugged',
    [
      { type: 'Mains', online: '0' },
      { type: 'Battery', status: 'Discharging' },
    ],
    true,
  ],
  [
    'one of two plugs is in',
    [
      { type: 'USB', online: '0' },
      { type: 'USB', online: '1' },
      { type: 'Battery', status: 'Charging' },
    ],
    false,
  ],
  ['a battery and no plug that is shown', [{ type: 'Battery', status: 'Discharging' }], true],
  ['a full battery and no plug that is shown', [{ type: 'Battery', status: 'Full' }], false],
  ['a desktop with the battery of a mouse', [{ type: 'Battery', status: 'Discharging', scope: 'Device' }], false],
  ['a plug that says 0 on a machine without a battery', [{ type: 'USB', online: '0' }], false],
]

for (const [name, supplies, expected] of cases)
  test(`${name}: ${expected ? 'battery' : 'mains'}`, () => assert.equal(isOnBattery(supplies), expected))
