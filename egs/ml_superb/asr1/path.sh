# shellcheck shell=bash
# Source this to use the environment of the recipes by hand: . ./path.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../../utils/path.sh"
