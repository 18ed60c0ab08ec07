#!/bin/sh
# The steps that both images are made of.
#
#   install.sh compiler                  a C++ compiler, which torch.compile calls on a GPU
#   install.sh packages REQUIREMENTS     the hash-locked packages into /opt/venv
#   install.sh project                   the code in /opt/dae_ssl into /opt/venv, and the check of what was installed
#   install.sh commit COMMIT             where that code comes from, unless that is empty or unknown
#
# What the building machine needs to reach its mirrors lies in the folder $SECRETS (/run/secrets) while a step runs, and
# nothing of it remains in the image; each file may be missing:
#
#   pip.conf       pip's settings: an index, a proxy
#   ca.crt         certificates to trust, PEM
#   environment    lines of NAME=VALUE: https_proxy=...
set -eu
secrets=${SECRETS:-/run/secrets}
if [ -r "$secrets/environment" ]; then
    set -a
    # shellcheck source=/dev/null
    . "$secrets/environment"
    set +a
fi
if [ -r "$secrets/pip.conf" ]; then
    export PIP_CONFIG_FILE="$secrets/pip.conf"
fi
if [ -r "$secrets/ca.crt" ]; then
    export PIP_CERT="$secrets/ca.crt" SSL_CERT_FILE="$secrets/ca.crt"
    apt_options="-o Acquire::https::CAInfo=$secrets/ca.crt"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore

compiled() { # FOLDER: nobody can write bytecode later, and without it every start would take seconds longer
    # Packages' own tests, a quarter of it all, never run here; some files are no valid Python.
    /opt/venv/bin/python -m compileall -q -j 0 -x '/tests/' --invalidation-mode unchecked-hash "$1" || true
}

case $1 in
compiler)
    if ! command -v c++ >/dev/null; then
        # shellcheck disable=SC2086
        apt-get ${apt_options:-} update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get ${apt_options:-} install -y -qq --no-install-recommends g++
        rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
    fi
    ;;
packages)
    python3 -m venv /opt/venv
    # What comes as source is built with the locked setuptools: pip would fetch one of its own choice for that.
    locked=$(mktemp)
    sed -n '/^setuptools==/,/[^\\]$/p' "$2" >"$locked"
    install="/opt/venv/bin/pip install --quiet --no-deps --require-hashes --no-compile"
    $install -r "$locked"
    $install --use-pep517 --no-build-isolation -r "$2"
    rm "$locked"
    compiled /opt/venv/lib
    ;;
project)
    /opt/venv/bin/pip install --quiet --no-deps --no-build-isolation --no-index --editable /opt/dae_ssl
    rm -rf /opt/dae_ssl/build
    compiled /opt/dae_ssl
    chmod -R a+rX /opt/dae_ssl # whoever built it may have had a strict umask
    /opt/venv/bin/dae-ssl versions --lock /opt/dae_ssl/requirements.lock
    ;;
commit)
    case ${2:-} in '' | unknown) exit 0 ;; esac
    printf %s "$2" >/opt/dae_ssl/COMMIT
    chmod 644 /opt/dae_ssl/COMMIT
    ;;
*)
    echo "no step $1: choose compiler, packages, project or commit" >&2
    exit 2
    ;;
esac
