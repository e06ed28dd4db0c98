# shellcheck shell=bash
# Source this: puts the environment that tools/setup.sh makes, and this clone, on the paths. Sets S3ROUTER_ROOT.
S3ROUTER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export S3ROUTER_ROOT
export PATH="${S3ROUTER_VENV:-${S3ROUTER_ROOT}/tools/venv}/bin:${PATH}"
export PYTHONPATH="${S3ROUTER_ROOT}${PYTHONPATH:+:${PYTHONPATH}}"
export PYTHONUNBUFFERED=1 PYTHONUTF8=1
# What the engines will have to change one day is no news to the user of a recipe.
export PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::FutureWarning,ignore::DeprecationWarning}
# Kaldi directories are sorted by bytes, whatever the user's language.
export LC_ALL=C.UTF-8
