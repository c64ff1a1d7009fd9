// The page kedge-target(5) and the table of keys say the same.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { parseEnv } from '../lib/env.ts'
import { type Key, keys } from '../lib/keys.ts'
import { settingOf } from '../lib/newtarget.ts'
import { isSecretKey } from '../lib/secretkeys.ts'
import { root } from './harness.ts'

const page = fs.readFileSync(path.join(root, 'docs/kedge-target.5'), 'utf8')
/** The entries of the page's lists of keys: `.It Ev KEY No = Ar FORM`, and the text up to the next. */
const entries = [...page.matchAll(/^\.It Ev (\w+)(.*)\n([\s\S]*?)(?=^\.It|^\.El)/gm)].map(([, key = '', form = '', text = '']) => ({
  key,
  form,
  text,
}))

test('every key has one entry on the page, and every entry is a key', () => {
  assert.deepEqual(entries.map(({ key }) => key).sort(), Object.keys(keys).sort())
})

test('the form and the default of each key are on the page', () => {
  for (const [key, { form, default: value }] of Object.entries(keys) as [string, Key][]) {
    const entry = entries.find((each) => each.key === key) ?? assert.fail(key)
    assert.match(entry.form, new RegExp(` = Ar ${{ keep: 'count', yes: 'yes|no' }[form as string] ?? form}$`.replace('|', '\\|')), key)
    if (value === undefined) assert.doesNotMatch(entry.text, /Default: \.?\S/, `${key} has no default`)
    else assert.match(entry.text, new RegExp(`^Default: ${value.replaceAll('*', '\\*')}\\.$`, 'm'), `${key}: the default is ${value}`)
  }
})

test('the examples on the page are env files without a fault', () => {
  const blocks = [...page.matchAll(/^\.Bd -literal[^\n]*\n([\s\S]*?)^\.Ed$/gm)].map(([, text = '']) =>
    text.replaceAll('\\e', '\\').replaceAll('\\&', ''),
  )
  const files = blocks.filter((text) => /^ENGINE=|^RESTIC_PASSWORD=/m.test(text))
  assert.ok(files.length >= 5, `${files.length} examples`)
  for (const text of files) {
    for (const part of text.split(/^# (?:targets\/|what SECRET).*$/m)) {
      const { entries: found, faults } = parseEnv(part, 'example')
      assert.deepEqual(faults, [], part)
      for (const key of found.keys()) assert.ok(key in keys || /^(RESTIC|AWS)_/.test(key), key)
    }
  }
})

test('what names a file is no secret, and may stand in --set', () => {
  const files = [
    'SSH_KEY',
    'RESTIC_PASSWORD_FILE',
    'AWS_WEB_IDENTITY_TOKEN_FILE',
    'AZURE_FEDERATED_TOKEN_FILE',
    'GOOGLE_APPLICATION_CREDENTIALS',
  ]
  for (const key of files) assert.deepEqual(settingOf(`${key}=/a/path`), [key, '/a/path'])
  for (const key of [
    'AWS_SECRET_ACCESS_KEY',
    'AZURE_ACCOUNT_KEY',
    'AZURE_ACCOUNT_SAS_TOKEN',
    'WEBHOOK_TOKEN',
    'SMTP_PASSWORD',
    'RCLONE_CONFIG_R_KEY_1',
  ])
    assert.throws(() => settingOf(`${key}=x`), /refusing/)
  for (const key of Object.keys(keys)) assert.equal(isSecretKey(key), /TOKEN|PASSWORD$/.test(key), key)
})
