# shellcheck shell=bash disable=SC2034,SC2154
# What the local/data.sh of the recipes beside it share: sourced after `usage` is set, with the script's arguments. Sets
# corpus, downloads, data, fold, lists, lexicon, here, root and fetch; gives die, unpack and prepare.
. "$(dirname "${BASH_SOURCE[0]}")/../../utils/local_data.sh"
corpus='' downloads=downloads data=data fold='' lists='' lexicon=''
local_options "corpus downloads data fold lists lexicon" "$@"
fetch=$root/egs/superb/fetch.sh
