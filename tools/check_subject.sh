#!/bin/sh
# Refuse a commit message whose first line has over 72 characters. Usage: check_subject.sh MESSAGE_FILE
set -eu
subject=$(head -n 1 "$1")
[ "${#subject}" -le 72 ] || {
    printf '%s\n' "the subject has ${#subject} characters, at most 72: $subject" >&2
    exit 1
}
