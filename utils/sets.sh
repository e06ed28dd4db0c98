# shellcheck shell=bash disable=SC2154
# Source this after stage.sh: what stage scripts do with the sets of a recipe, Kaldi directories. Their options
# skip_data_prep, local_data_opts, corpus and nj, and the arrays sets and names, are used here.

# locate SET: its path; a name is one under ${data}.
locate() { case $1 in */*) echo "${1%/}" ;; *) echo "${data}/$1" ;; esac }

# name_sets: fills names with the last parts of the paths in sets, by which folders are called afterwards.
name_sets() {
    local set name
    for set in "${sets[@]}"; do
        name=$(basename "${set}")
        case " ${names[*]-} " in *" ${name} "*) die "two of the sets are called ${name}: rename one" ;; esac
        names+=("${name}")
    done
}

# corpus_options: fills opts, a variable of the caller, for local/data.sh; false where --skip-data-prep leaves that out.
corpus_options() {
    if [ "${skip_data_prep}" = true ]; then
        log "  left out (--skip-data-prep)"
        return 1
    fi
    read -ra opts <<<"${local_data_opts}"
    [ -z "${corpus}" ] || opts+=(--corpus "${corpus}")
}

# check_sets: stage of the scripts that train on the sets as they are. need_sets is the script's own.
check_sets() {
    local set
    need_sets
    for set in "${sets[@]}"; do
        run_once "exp/log/check_${set//\//_}.log" --inputs "${set}" -- \
            python -m s3router.data.validate "${set}" --no-text --nj "${nj}"
    done
}
