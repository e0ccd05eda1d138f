# The virtual environment of scripts/demo and scripts/test. Sourced, not run.
#   LREM_OS_VENV    where it lies          [.venv in the checkout]
#   LREM_OS_PYTHON  which Python makes it  [the first of python3, python3.13, 3.12, 3.11 that is new enough]
#   LREM_OS_WHEELS  a folder of wheels that pip may use beside its index  [../shared/wheels, if it is there]

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LREM_OS_VENV:-$root/.venv}

find_python() {
    local candidate
    for candidate in ${LREM_OS_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: lrem-os needs Python 3.11 or newer; python3 is $(python3 --version 2>&1 || echo missing)" >&2
    echo "  → install one, or name it: LREM_OS_PYTHON=/path/to/python3.12 $0" >&2
    return 1
}

has_nvidia_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

# A build of torch for the processor alone is 200 MB, the usual one several GB: take the small one if it lies at hand.
install_cpu_torch() {
    local wheels=${LREM_OS_WHEELS:-$root/../shared/wheels}
    if [ -d "$wheels" ] && ! has_nvidia_gpu; then
        "$venv/bin/python" -m pip install --quiet --no-index --no-deps --find-links "$wheels" torch >/dev/null 2>&1 ||
            echo "no torch for this Python in $wheels: taking it from the package index"
    fi
}

# ensure_venv EXTRA: the environment with lrem-os[EXTRA] from this checkout; does nothing when it is up to date.
ensure_venv() {
    local extra=$1 stamp="$venv/.lrem-os-$1" python
    if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && cmp -s "$root/pyproject.toml" "$stamp"; then
        return
    fi
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        if ! [ -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
            echo "error: $venv is there and is no virtual environment" >&2
            echo "  → set LREM_OS_VENV to another folder" >&2
            return 1
        fi
        python=$(find_python)
        echo "making a virtual environment in $venv"
        if ! "$python" -m venv --clear "$venv"; then
            echo "error: $python cannot make a virtual environment" >&2
            echo "  → on Debian and Ubuntu: apt install python3-venv" >&2
            return 1
        fi
    fi
    echo "installing lrem-os[$extra]: minutes the first time"
    "$venv/bin/python" -c 'import torch' 2>/dev/null || install_cpu_torch
    (cd "$root" && "$venv/bin/python" -m pip install --quiet --editable ".[$extra]") || {
        echo "error: pip could not install lrem-os[$extra] (its message is above)" >&2
        return 1
    }
    cp "$root/pyproject.toml" "$stamp"
}
