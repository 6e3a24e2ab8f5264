#!/bin/sh
# Create or bring up to date the environment VENV. Usage: setup.sh VENV run|dev|engines
#   run  fewmark with the transformers engine
#   dev  what the tests, the checks and the documentation need as well (a headless browser among them)
#   engines  on top of dev: Ray, and what the other engines compile with (a C++ compiler, ninja, the headers of Python
#        and of libaio)
set -eu
venv=$1
tier=$2
python=${PYTHON:-python3}

say() { printf '%s\n' "setup: $*" >&2; }

apt_install() {
    # Only where it can work without asking: Debian's apt-get as root, or through sudo without a password.
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo="sudo -n"; else return 1; fi
    say "installing $* with apt-get"
    $sudo apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "$@" >/dev/null
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "needs Python 3.11 or newer as '$python'; name another with: make PYTHON=/path/to/python3.11 ..."
    exit 1
}

if [ ! -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        apt_install python3-venv || { say "needs the venv module of Python: install python3-venv"; exit 1; }
        "$python" -m venv "$venv"
    fi
fi

pip() { "$venv/bin/python" -m pip install --quiet --constraint requirements.lock "$@"; }
say "installing the locked packages ($tier); the first time takes a few minutes"
case $tier in
run)
    pip hatchling editables
    pip --no-build-isolation --editable '.[transformers]'
    ;;
dev)
    pip --no-build-isolation --editable '.[transformers,postgres,figures,load,web,mcp]' -r tools/dev-requirements.txt
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null 2>&1 && exit 0
    done
    [ -n "${CHROMIUM:-}" ] || apt_install chromium || {
        say "the browser tests need Chromium: install it, or set CHROMIUM to its path"
        exit 1
    }
    ;;
engines)
    set --
    command -v g++ >/dev/null 2>&1 || set -- "$@" g++
    command -v ninja >/dev/null 2>&1 || set -- "$@" ninja-build
    [ -e /usr/include/libaio.h ] || set -- "$@" libaio-dev
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || set -- "$@" python3-dev
    [ $# = 0 ] || apt_install "$@" || { say "the engines are compiled with $*: install them"; exit 1; }
    pip --no-build-isolation --editable '.[ray]'
    ;;
esac
