# shellcheck shell=sh disable=SC2154,SC2317,SC2329 # a part of setup: its variables and functions are there
# ./setup --from TARBALL: verifies a release and hands over to the setup in it.
# Beside the tarball lie SHA256SUMS and its signature, SHA256SUMS.asc (OpenPGP) or SHA256SUMS.sig (signify). All are copied
# first, so that what is unpacked is what was verified.

# The key to verify with: the one that was given, or the one that the operator put beside the installed versions.
find_key() {
  [ -n "$key" ] || key=$lib/release.pub
  [ -f "$key" ] || return
  case $(head -n 1 "$key") in
    'untrusted comment:'*) signature=SHA256SUMS.sig ;;
    *) signature=SHA256SUMS.asc ;;
  esac
}

fetch() {
  mkdir "$work/from" || return
  for name in "${tarball##*/}" SHA256SUMS "$signature"; do
    [ -n "$name" ] || continue
    if [ "$unsigned" = yes ] && [ "$name" = SHA256SUMS ] && [ ! -e "$folder/SHA256SUMS" ]; then continue; fi
    cp "$folder/$name" "$work/from/$name" || return
  done
}

verify() {
  case $signature in
    *.sig)
      tool=$(command -v signify-openbsd || command -v signify) || {
        echo 'neither signify nor signify-openbsd is installed'
        return 1
      }
      "$tool" -V -p "$key" -x "$work/from/$signature" -m "$work/from/SHA256SUMS"
      ;;
    *) verify_openpgp ;;
  esac
}

# gpg's status alone also is 0 for a key that has expired or was revoked.
verify_openpgp() {
  (umask 077 && mkdir "$work/gnupg") || return
  gpg --homedir "$work/gnupg" --batch --quiet --import "$key" || return
  said=$(gpg --homedir "$work/gnupg" --batch --status-fd 1 --verify "$work/from/$signature" "$work/from/SHA256SUMS") || return
  echo "$said"
  ! echo "$said" | grep -Eq '^\[GNUPG:] (EXPKEYSIG|REVKEYSIG|EXPSIG|BADSIG|ERRSIG) ' && echo "$said" | grep -q '^\[GNUPG:] VALIDSIG '
}

compare_sum() {
  found=$(files sha256 "$work/from/${tarball##*/}") || return
  grep -Fqx "$found  ${tarball##*/}" "$work/from/SHA256SUMS" && return
  echo "$found is the checksum of ${tarball##*/}, and SHA256SUMS does not have it"
  return 1
}

unpack() {
  mkdir "$work/unpacked" &&
    "$node" "$here/install/unpack.mjs" "$here/dist/vendor/tar.cjs" "$work/from/${tarball##*/}" "$work/unpacked"
}

system_from() {
  case $tarball in -*) tarball=./$tarball ;; esac
  folder=$(dirname "$tarball") signature=''
  case ${tarball##*/} in
    *[!A-Za-z0-9._-]* | .*) misuse "cannot use '$tarball': a release is named kedge-VERSION.tar.gz" ;;
    kedge-*.tar.gz) ;;
    *) misuse "cannot use '$tarball': a release is named kedge-VERSION.tar.gz" ;;
  esac
  [ -f "$tarball" ] || misuse "cannot use '$tarball': no such file"
  if [ "$unsigned" != yes ]; then
    find_key || misuse "no key to verify '$tarball' with: --key FILE names it, or put it at $lib/release.pub; --unsigned goes without"
  fi
  step "tarball: $tarball" fetch
  if [ "$unsigned" = yes ]; then report SKIPPED 'signature: --unsigned'; else step "signature: $signature by $key" verify; fi
  if [ -f "$work/from/SHA256SUMS" ]; then step 'checksum' compare_sum; else report SKIPPED 'checksum: there is no SHA256SUMS'; fi
  step 'unpack' unpack
  top=${tarball##*/}
  if [ "$mode" = from ] && [ -n "$(link_name current)" ]; then mode=update; fi
  [ "$mode" = update ] || mode=system
  set -- "--$mode" --prefix "$prefix"
  [ "$verbose" != yes ] || set -- "$@" --verbose
  sh "$work/unpacked/${top%.tar.gz}/setup" "$@" 3>&-
}
