// Which settings are secret, by their names. Pure.

/** Keys whose values are secret, by their names: they belong into no argv and no plain file. What ends in _FILE, and SSH_KEY, names a file. */
export const isSecretKey = (key: string): boolean =>
  /PASS(WORD|PHRASE|WD)?$|SECRET|TOKEN|(^|_)KEY$|(^|_)KEY_\d$/.test(key) &&
  !/^(SECRET|SECRET_COMMAND|STREAM_SECRETS|HOOK_SECRETS|SSH_KEY|.*_FILE)$/.test(key)

/** The secrets that a repository's service wants beside the password, by the beginning of its name. */
export const credentials: Readonly<Record<string, readonly string[]>> = {
  s3: ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'],
  b2: ['B2_ACCOUNT_ID', 'B2_ACCOUNT_KEY'],
  azure: ['AZURE_ACCOUNT_NAME', 'AZURE_ACCOUNT_KEY'],
  gs: ['GOOGLE_PROJECT_ID', 'GOOGLE_APPLICATION_CREDENTIALS'],
  swift: ['OS_AUTH_URL', 'OS_USERNAME', 'OS_PASSWORD', 'OS_PROJECT_NAME', 'OS_REGION_NAME'],
  rest: ['RESTIC_REST_USERNAME', 'RESTIC_REST_PASSWORD'],
}
export const credentialsOf = (repository: string): readonly string[] => credentials[repository.split(':')[0] ?? ''] ?? []
