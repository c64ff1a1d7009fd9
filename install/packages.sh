# shellcheck shell=sh disable=SC2034,SC2154,SC2317,SC2329 # a part of setup: its variables and functions are there
# What kedge needs and the machine lacks, by the package manager that is there.

# The package manager, then its packages for node, npm, restic, gpg, fuse and ps. A comma joins several; - is none:
# OpenBSD's node brings npm, its base ps, and restic has no mount there.
managers='
apt-get nodejs npm,ca-certificates restic gnupg fuse3 procps
dnf nodejs npm restic gnupg2 fuse3 procps-ng
apk nodejs npm restic gnupg fuse3 procps
zypper nodejs-default npm-default restic gpg2 fuse3 procps
pacman nodejs npm restic gnupg fuse3 procps-ng
pkg_add node - restic gnupg-- - -
'

# $never is -n where there is no terminal: sudo and doas then fail rather than ask.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    # shellcheck disable=SC2086 # nothing or one word
    sudo $never "$@"
  elif have doas; then
    # shellcheck disable=SC2086 # nothing or one word
    doas $never "$@"
  else
    echo "this user is not root, and there is neither sudo nor doas: run as root: $*"
    return 1
  fi
}

manager() {
  echo "$managers" | while read -r name packages; do
    if [ -n "$name" ] && have "$name"; then
      echo "$name $packages"
      break
    fi
  done
}

install_with() {
  name=$1
  shift
  case $name in
    apt-get)
      as_root apt-get -q update || echo 'apt-get update failed: trying with the lists that are there'
      as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        --no-install-recommends install "$@"
      ;;
    dnf) as_root dnf -y install "$@" ;;
    apk) as_root apk add --update-cache "$@" ;;
    zypper) as_root zypper --non-interactive install --no-recommends "$@" ;;
    pacman) as_root pacman -Sy --needed --noconfirm "$@" ;;
    pkg_add) as_root pkg_add -I "$@" ;;
  esac
}

# What is missing, in the words of the table's columns.
missing() {
  find_node >/dev/null || have node || echo node
  have npm || is_built || echo npm
  [ "$mode" != node ] || return 0
  have restic || echo restic
  have gpg || echo gpg
  [ "$(uname)" != Linux ] || have fusermount3 || have fusermount || echo fuse
  have ps || echo ps # by it a lock of a dead run is told from a living one's
}

# npm is for the build and for a node of our own, and not needed where both are there.
is_built() { [ "$mode" != node ] && find_node >/dev/null && ! must_build; }

packages_for() {
  for tool in $wanted; do
    # shellcheck disable=SC2086 # a row of the table
    set -- $row
    case $tool in
      node) echo "$2" ;;
      npm) echo "$3" ;;
      restic) echo "$4" ;;
      gpg) echo "$5" ;;
      fuse) echo "$6" ;;
      ps) echo "$7" ;;
    esac
  done | tr ',' '\n' | grep -v '^-$' | sort -u
}

see_to_packages() {
  wanted=$(missing | sort -u)
  if [ -z "$wanted" ]; then
    [ "$mode" = node ] || report SKIPPED 'packages: nothing is missing'
    return
  fi
  row=$(manager)
  # shellcheck disable=SC2086 # one word a tool
  [ -n "$row" ] || {
    echo "no package manager that setup knows (apt, dnf, apk, zypper, pacman, pkg_add): install by hand:" $wanted >>"$log"
    failed 'packages'
  }
  packages=$(packages_for)
  # shellcheck disable=SC2086 # one word a package
  step "packages: $(echo "$packages" | paste -s -d " " -)" install_with "${row%% *}" $packages
  left=$(have restic || echo "$wanted" | grep -x restic)
  [ -z "$left" ] || {
    echo "${row%% *} said that restic is installed, and there is none in PATH" >>"$log"
    failed 'packages'
  }
}
