# shellcheck shell=sh disable=SC2034,SC2154,SC2317,SC2329 # a part of setup: its variables and functions are there
# ./setup PATH...: the target 'local' for the paths, a first backup, a drill.

# Prints the path as kedge is to save it: absolute, and without links on the way.
absolute() {
  case $1 in
    '') misuse 'a path is empty' ;;
    *"$newline"*) misuse "cannot save '$1': a name with a line feed does not fit in the file paths" ;;
  esac
  case $1 in -*) set -- "./$1" ;; esac
  [ -e "$1" ] || misuse "cannot save '$1': no such file or folder"
  [ -r "$1" ] || misuse "cannot save '$1': it cannot be read by this user"
  if [ -d "$1" ]; then
    (cd "$1" && pwd -P)
  elif [ -L "$1" ]; then
    misuse "cannot save '$1': it is a link: give the file that it points to"
  else
    folder=$(cd "$(dirname "$1")" && pwd -P) && printf '%s/%s\n' "${folder%/}" "$(basename "$1")"
  fi
}

# Whether the target that is there saves the path, by its own line or by a folder above.
is_saved() {
  while IFS= read -r line; do
    case $1 in "$line" | "${line%/}"/*) return 0 ;; esac
  done <"$target/paths"
  return 1
}

# A second run does not change the target: other paths than its own are refused, not left out in silence.
check_paths() {
  [ -d "$target" ] || return 0
  for path in "$@"; do
    is_saved "$path" 2>/dev/null ||
      misuse "the target 'local' exists and does not save '$path': add the line to $target/paths, then run kedge backup local"
  done
}

new_target() {
  for path in "$@"; do
    set -- "$@" --path "$path"
    shift
  done
  built_kedge new local "$@" --repo "$repository" --secret file --quiet
}

see_to_target() {
  if [ -d "$target" ]; then
    report SKIPPED "target: $target is there"
  else
    step "target: $target" new_target "$@"
  fi
  if grep -q '^STORE_ID=' "$target/target.env"; then
    report SKIPPED 'repository: it is there'
  else
    step "repository: $repository" built_kedge init local
  fi
}

# Status 3 is a backup in which some files could not be read: it counts, and the end says so.
take_backup() {
  logged built_kedge backup local
  partly=$?
  case $partly in
    0) report OK 'backup' ;;
    3) report PARTLY 'backup: some files could not be read' ;;
    *) failed 'backup' ;;
  esac
}

device() { df -P "$1" 2>/dev/null | sed -n '2s/ .*//p'; }

same_disk() {
  for path in "$@"; do
    [ "$(device "$path")" != "$(device "$repository")" ] || return 0
  done
  return 1
}

setting() { built_kedge config local "$1" | cut -f 2; }

# Where things are, as the target says: its owner may have moved them since the first run.
tell() {
  repository=$(setting RESTIC_REPOSITORY)
  key=$target/secret.env
  [ -f "$key" ] || key="as SECRET=$(setting SECRET) says"
  on=''
  ! same_disk "$@" || on=' It lies on the same file system as what it saves.'
  sheet=$target/recovery.txt
  [ -f "$sheet" ] || sheet="$command recovery local prints it"
  cat <<TEXT

kedge has saved, and shown that it can restore:

$(printf '  %s\n' "$@")

  repository      $repository
  its key         $key
  recovery sheet  $sheet

A copy on the same disk is no protection from that disk.$on
Copy the key and the sheet to another machine: without the key nobody can read the repository.
When that is done, $command recovery local --noted ends doctor's warning.

Next:
  $command list local                             the snapshots
  $command restore local latest --to NEW_FOLDER   all of it, into a new place
  $command schedule install local                 from now on by itself, when SCHEDULE_BACKUP in its target.env says
  $command doctor local                           what is still to be seen to
TEXT
}

explain() {
  cat <<TEXT

kedge is ready: $command
Nothing is saved yet. To save paths on this machine and prove that they can be restored:

  ./setup PATH...

or write a target of your own, for another disk or machine, S3, SFTP or a rest-server:

  $command new NAME
TEXT
}
