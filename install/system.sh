# shellcheck shell=sh disable=SC2154,SC2317,SC2329 # a part of setup: its variables and functions are there
# ./setup --system, --update, --rollback and --uninstall: kedge for the whole machine, below a prefix.
#   lib/kedge/VERSION    all of a version; running backups keep using theirs
#   lib/kedge/current    the version in use, a link
#   lib/kedge/previous   the one before, for --rollback
#   lib/kedge/manifest   what was written, with checksums
# and bin/, the man pages, the completions and, on Linux, systemd's units, which belong to the version in use.

# The place of each shell's completion, below the prefix.
completion_places='
kedge.bash share/bash-completion/completions/kedge
_kedge share/zsh/site-functions/_kedge
kedge.fish share/fish/vendor_completions.d/kedge.fish
kedge.ksh share/kedge/kedge.ksh
'

tab=$(printf '\t')

files() { "$node" "$here/install/files.mjs" "$@"; }

link_name() { readlink "$lib/$1" 2>/dev/null; }
version_of() { "$node" "$1/dist/kedge.cjs" --version | sed 's/^kedge //'; }
is_listed() { grep -q " $1\$" "$lib/manifest" 2>/dev/null; }

# -- what is laid where -------------------------------------------------------------------------------------------

stage_tree() {
  mkdir "$work/tree" || return
  while read -r name; do
    cp -R "$here/$name" "$work/tree/" || return
  done <"$here/install/contents"
}

stage_version() { mkdir -p "$work/version/lib/kedge" && mv "$work/tree" "$work/version/lib/kedge/$1"; }

# The part of a version that lies outside of its folder. A node that setup itself brought comes along.
stage_outside() {
  tree=$lib/$1 out=$work/outside entry=$lib/current/dist/kedge.cjs
  rm -rf "$out" && mkdir -p "$out/bin" || return
  case $node in
    "$here"/* | "$lib"/*)
      mkdir -p "$out/lib/kedge/node/bin" && cp "$node" "$out/lib/kedge/node/bin/node" || return
      wrapper "$lib/node/bin/node" "$entry" >"$out/bin/kedge" || return
      ;;
    *) wrapper "$node" "$entry" >"$out/bin/kedge" || return ;;
  esac
  chmod 755 "$out/bin/kedge" || return
  for file in "$tree"/dist/bin/*.cjs; do
    ln -s kedge "$out/bin/kedge-$(basename "$file" .cjs)" || return
  done
  man=share/man
  [ "$(uname)" != OpenBSD ] || man='man'
  for file in "$tree"/docs/*.[1-9]; do
    mkdir -p "$out/$man/man${file##*.}" && cp "$file" "$out/$man/man${file##*.}/" || return
  done
  echo "$completion_places" | while read -r name to; do
    [ -n "$name" ] || continue
    mkdir -p "$out/${to%/*}" && cp "$tree/dist/completions/$name" "$out/$to" || exit
  done || return
  # For systemctl start kedge-backup@TARGET; where kedge schedule install writes them for a machine, systemd looks first.
  [ "$(uname)" != Linux ] || files units "$tree/systemd" "$out/lib/systemd/system" "$bin/kedge"
}

# What an earlier ./setup without --system linked is this one's now; a kedge of somebody else's is not touched.
check_bin() {
  [ -e "$bin/kedge" ] || [ -L "$bin/kedge" ] || return 0
  is_listed bin/kedge || is_wrapper "$bin/kedge" && return
  echo "$bin/kedge is not from setup: move it away"
  return 1
}

adopt_bin() {
  set --
  is_listed bin/kedge || ! is_wrapper "$bin/kedge" || set -- bin/kedge
  for path in "$bin"/kedge-*; do
    if [ "$(readlink "$path" 2>/dev/null)" = kedge ] && ! is_listed "bin/${path##*/}"; then set -- ${1+"$@"} "bin/${path##*/}"; fi
  done
  [ $# = 0 ] || files adopt "$prefix" "$@"
}

# lay LABEL STAGE
lay() {
  logged files lay "$2" "$prefix" || failed "$1"
  if [ "$(tail -n 1 "$log")" = unchanged ]; then report SKIPPED "$1 are there"; else report OK "$1"; fi
}

# What the operator changed: named once, at the end.
tell_left() {
  sed -n 's/^left //p' "$log" | sort -u | while read -r path; do
    report SKIPPED "$path: changed since, or not from setup: left as it is"
  done
}

# -- switching ----------------------------------------------------------------------------------------------------

# It starts, and each of its commands loads.
proved() {
  version_of "$lib/$1" && "$node" "$lib/$1/dist/kedge.cjs" help
}

switch_to() {
  old=$(link_name current)
  if [ -n "$old" ] && [ "$old" != "$1" ]; then files link "$old" "$lib/previous" || return; fi
  files link "$1" "$lib/current"
}

# Makes a version that lies in lib the one in use, with all that is outside of its folder.
use() {
  step "start: $lib/$1" proved "$1"
  read_schedule
  logged stage_outside "$1" || failed 'files'
  logged adopt_bin || failed "$bin/kedge"
  if [ "$(link_name current)" = "$1" ]; then
    report SKIPPED "switch: $lib/current is $1"
  else
    step "switch: $lib/current is $1" switch_to "$1"
  fi
  units=''
  [ "$(uname)" != Linux ] || units=", systemd's units"
  lay "commands, man pages, completions$units: $prefix" "$work/outside"
  [ "$(tail -n 1 "$log")" = unchanged ] || reload_systemd
  refresh_schedule
}

# A systemd that runs knows the units as they were.
reload_systemd() {
  [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] || return 0
  if logged systemctl daemon-reload; then
    report OK 'systemd: daemon-reload'
  else
    report PARTLY 'systemd: daemon-reload failed: it goes on with the units that it has read'
  fi
}

# The version in use and the one before stay. A scheduler can be of any version.
remove_old() {
  ! is_used scheduler || return 0
  for folder in "$lib"/[0-9]*; do
    name=${folder##*/}
    case $name in "$(link_name current)" | "$(link_name previous)") continue ;; esac
    step "old version: $name removed" files remove "$prefix" "lib/kedge/$name"
  done
}

# -- schedules ----------------------------------------------------------------------------------------------------

# Whether what `kedge schedule install` wrote names a command below this prefix: another kedge's schedules are its own matter.
starts_ours() {
  units=/etc/systemd/system
  [ "$(id -u)" = 0 ] || units=$HOME/.config/systemd/user
  [ -z "${SYSTEMD_UNIT_PATH-}" ] || units=${SYSTEMD_UNIT_PATH%%:*}
  # In a crontab a path can stand in quotes.
  word=$(quoted "$lib/")
  { cat "$units"/kedge-*.service /etc/rc.d/kedged; crontab -l; } 2>/dev/null |
    grep -Fq -e "$bin/kedge" -e "$lib/" -e "${word%\'}"
}

# `kedge schedule` of the version in use: the first column is the target, the fifth says what starts the run.
read_schedule() {
  schedule=''
  if [ -x "$bin/kedge" ] && starts_ours; then schedule=$("$bin/kedge" schedule 2>>"$log"); fi
}

# The targets of which the way $1 starts a run.
started_by() {
  echo "$schedule" | while IFS="$tab" read -r name _ _ _ by _; do
    if [ "$by" = "$1" ] && [ "$name" != - ]; then echo "$name"; fi
  done | sort -u
}

is_used() { echo "$schedule" | cut -f 5 | grep -qx "$1"; }

# Written anew by the version that is now in use, only where and how they are installed.
refresh_schedule() {
  for way in systemd crontab; do
    is_used $way || continue
    names=''
    if is_used systemd && is_used crontab; then names=$(started_by $way); fi
    # shellcheck disable=SC2086 # one word a target
    logged "$bin/kedge" schedule install --by $way $names
    case $? in
      0) report OK "schedules: by $way" ;;
      3) report PARTLY "schedules: by $way, some not" ;;
      *) failed "schedules: by $way" ;;
    esac
  done
  if is_used scheduler; then
    report SKIPPED 'kedge scheduler: goes on as the version that started it, until it is started anew'
  fi
}

remove_schedule() {
  if [ -x "$bin/kedge" ] && starts_ours; then
    step 'schedules: removed' "$bin/kedge" schedule remove
    ! starts_ours || report SKIPPED "schedules: a unit or crontab that kedge did not write still names $bin/kedge"
    schedule=$("$bin/kedge" schedule 2>>"$log")
    ! is_used scheduler || report SKIPPED 'kedge scheduler: still runs, and will start nothing more if it is this one'
  fi
}

# -- the modes ----------------------------------------------------------------------------------------------------

system_install() {
  logged check_bin || failed "$bin/kedge"
  version=$(version_of "$here")
  old=$(link_name current)
  if [ "$mode" = update ]; then
    [ -n "$old" ] || misuse "no kedge is installed in $prefix: ./setup --system installs one"
    if files older "$version" "$(version_of "$lib/$old")"; then
      misuse "kedge $version is older than $old, which is installed: --rollback goes back to the version before, --system installs $version"
    fi
  fi
  logged stage_tree || failed 'files'
  name=$(files name "$prefix" "$version" "$work/tree" 2>>"$log") || failed "files: $lib/$version"
  logged stage_version "$name" || failed "files: $lib/$name"
  lay "files: $lib/$name" "$work/version"
  use "$name"
  remove_old
  tell_left
}

system_rollback() {
  name=$(link_name previous)
  case $name in '' | "$(link_name current)") misuse "there is no version in $lib to go back to" ;; esac
  use "$name"
  tell_left
}

# Where the operator's own things are, before the command that knows it is gone.
tell_kept() {
  for path in "$config" "$state" "$cache"; do
    [ ! -e "$path" ] || echo "  $path"
  done
  "$bin/kedge" targets 2>>"$log" | while IFS="$tab" read -r name _ store _; do
    echo "  the repository of $name: $store"
  done
}

system_uninstall() {
  [ -f "$lib/manifest" ] || misuse "no kedge is installed in $prefix"
  kept=$(tell_kept)
  remove_schedule
  step "kedge: removed from $prefix" files uninstall "$prefix"
  reload_systemd
  tell_left
  [ ! -d "$lib" ] || report SKIPPED "$lib: left, something else is in it"
  [ -z "$kept" ] || printf '\nWhat stays:\n\n%s\n' "$kept" >&3
}

# -- the run ------------------------------------------------------------------------------------------------------

find_prefix() {
  if [ -n "$prefix" ]; then
    case $mode in
      rollback | uninstall) ;;
      *) mkdir -p "$prefix" || exit 1 ;;
    esac
    prefix=$(cd "$prefix" && pwd -P) || exit 1
  elif is_installed; then
    prefix=${here%/lib/kedge/*}
  else
    [ "$(id -u)" = 0 ] || misuse "this user is not root: run as root, or give a folder of your own with --prefix DIR"
    prefix=/usr/local
  fi
  case $prefix in *"$newline"*) misuse 'a prefix cannot hold a line feed' ;; esac
  lib=$prefix/lib/kedge bin=$prefix/bin
}

# Two at a time would take each other's files for the operator's.
take_lock() { logged files lock "$prefix" $$ || failed "lock: $prefix/.kedge-setup"; }

clean() {
  ended=$?
  rm -rf "$work"
  [ "$(readlink "$prefix/.kedge-setup" 2>/dev/null)" != $$ ] || rm -f "$prefix/.kedge-setup"
  [ "$ended" = 1 ] || rm -f "$log"
}

system_wide() {
  find_prefix
  if [ "$mode" = update ] && [ -z "$tarball" ] && is_installed; then
    misuse 'this is the version that is installed: --from TARBALL gives a newer one, or run setup in the folder of one'
  fi
  open_log
  work=$(mktemp -d "${TMPDIR:-/tmp}/kedge-setup.XXXXXX") || exit 1
  trap clean EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  case $mode in
    rollback | uninstall) ;;
    *) [ -n "$tarball" ] || see_to_packages ;;
  esac
  see_to_node
  if [ -n "$tarball" ]; then
    [ -f "$here/dist/vendor/tar.cjs" ] || see_to_build
    # shellcheck source=install/from.sh
    . "$here/install/from.sh"
    system_from # the setup that it hands over to takes the lock
    exit
  fi
  take_lock
  case $mode in
    rollback) system_rollback ;;
    uninstall) system_uninstall ;;
    *)
      see_to_build
      system_install
      ;;
  esac
  exit 0
}
