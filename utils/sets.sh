# shellcheck shell=bash disable=SC2154
# Source this after stage.sh: what stage scripts do with the sets of a recipe (Kaldi directories). Their options
# skip_data_prep, local_data_opts, corpus and nj, and the arrays sets and names, are used here.

# locate SET: its path; a name is one under ${data}.
locate() { case $1 in */*) echo "${1%/}" ;; *) echo "${data}/$1" ;; esac }

# each_set LIST: the path of each set of a list, one per line. Sets are separated by blanks; a path that has blanks of its own
# is taken whole, if it is a folder that is there.
each_set() {
    local rest=$1 word
    while rest=${rest#"${rest%%[![:space:]]*}"} && [ -n "${rest}" ]; do
        word=${rest}
        until [[ ${word} != *[[:space:]]* ]] || { [[ ${word} != *[[:space:]] ]] && [ -d "$(locate "${word}")" ]; }; do
            word=${word%[[:space:]]*}
        done
        locate "${word}"
        rest=${rest#"${word}"}
    done
}

# name_sets: fills names with the last parts of the paths in sets, by which folders are called afterwards.
name_sets() {
    local set name other
    for set in "${sets[@]}"; do
        name=$(basename "${set}")
        for other in ${names[@]+"${names[@]}"}; do
            [ "${name}" != "${other}" ] || die "two of the sets are called ${name}: rename one"
        done
        names+=("${name}")
    done
}

# corpus_options: fills opts, a variable of the caller, for local/data.sh; false where --skip-data-prep leaves that out.
corpus_options() {
    if [ "${skip_data_prep}" = true ]; then
        log "  left out (--skip-data-prep)"
        return 1
    fi
    # shellcheck disable=SC2162 # a blank inside of a value is written as "\ "
    read -a opts <<<"${local_data_opts}"
    [ -z "${corpus}" ] || opts+=(--corpus "${corpus}")
}

# check_sets: stage of the scripts that train on the sets as they are. need_sets is the script's own.
check_sets() {
    local set
    need_sets
    for set in "${sets[@]}"; do
        run_once "exp/log/check_${set//\//_}.log" --inputs "${set}" -- \
            python -m s3router validate "${set}" --no-text --nj "${nj}"
    done
}
