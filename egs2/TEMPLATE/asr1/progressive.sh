#!/usr/bin/env bash
# The recipe body of every corpus: from Kaldi-style data folders to WERs of every train stage.
# A corpus calls it from its run.sh; see docs/pipeline.md for a corpus of your own.
set -euo pipefail

{ # bash reads all up to the last line before it starts: editing this file disturbs no running recipe

help_message=$(
    cat <<'EOH'
Usage: progressive.sh --train_set NAME --valid_set NAME --test_sets "NAME ..." [options]
       In a run.sh: progressive.sh <the recipe's options> -- "$@", to tell them from the user's

Steps (--stage N to --stop_stage N; a step whose inputs did not change costs next to nothing):
  1 local/data.sh makes data/<set>     2 format into dump/        3 token list
  4 data checks                        5 statistics               6 train stages
  7 language models                    8 decoding                 9 scoring, RESULTS.md
 10 report                            11 pack                    12 upload

  --stage N, --stop_stage N    first and last step (1, 12)
  --skip_data_prep, --skip_train, --skip_eval true|false    leave out steps 1-5, 6-7, 8-10 (false)
  --skip_packing true|false    leave out step 11: <expdir>/<tag>/<tag>.zip (false)
  --skip_upload_hf true|false  leave out step 12 (true)   --hf_repo OWNER/NAME   where it goes
  --lang CODE                  the model card's language, such as en
  --corpus NAME                and its data set (the name of the folder above this one)
  --upload_opts "..."          of upload: --private, --revision, --license, --datasets, --dry_run
Data
  --train_set, --valid_set, --test_sets    names of folders in data/; decoded: valid and test sets
  --local_data_opts "..."      options of local/data.sh, quoted as in a shell
  --feats_type auto|raw|extracted          auto: raw where there is a wav.scp, else feats.scp
  --fs RATE                    sampling rate of raw audio, such as 16000 or 16k (16000)
                               other rates are resampled, commands in wav.scp run, in step 2
  --audio_format flac|wav      of files made there (flac)
  --channel N|mean|all         of recordings of several that reco2file_and_channel does not name
  --speed_perturb_factors "0.9 1.0 1.1"    train on copies at these speeds: <train_set>_sp (none)
  --min_wav_duration S, --max_wav_duration S    training and validation utterances that are not longer,
                               or not shorter, are left out (0; any)
  --max_skipped SHARE          more unusable utterances than this are an error (0.5)
Labels
  --token_type char|bpe|phn (char)   --nbpe N (500)   --bpemode unigram|bpe (unigram)
  --bpe_train_text FILE        text for the sentencepiece model (the training set's)
  --bpe_nlsyms "a,b"|FILE      symbols that are a piece each   --bpe_char_cover SHARE (1.0)
  --bpe_input_sentence_size N  sentences that it looks at (100000000)
  --nlsyms_txt FILE            symbols such as <noise>, one a line: one label each (none)
  --remove_nlsyms true|false   they count in no WER or CER, on either side (true)
  --cleaner NAME               ESPnet's cleaner of transcripts, such as tacotron (none)
  --oov, --blank, --sos_eos    <unk>, <blank>, <sos/eos>: ESPnet's training knows no others
  --lexicon FILE               pronunciations, for phn   --g2p NAME   for words it lacks
Experiment
  --asr_config FILE            pipeline YAML (conf/train_progressive.yaml)
  --asr_tag NAME               name of the experiment (from the YAML, feature and token type)
  --asr_exp DIR                its folder (<expdir>/<tag>)
  --asr_stats_dir DIR          statistics (<expdir>/stats_<features>_<tokens>_<train set>)
  --asr_args "..."             for asr_train, in all stages; "--max_epoch 3"
  --asr_speech_fold_length N, --asr_text_fold_length N    for batch_type folded (800, 150)
  --align_args, --viterbi_args, --full_sum_args, --mbr_args "..."    for that stage's asr_train;
  --<stage>_args "..."         likewise for stages of other names in the YAML
  --alignment_args, --nbest_args "--nbest 8 ..."    for these jobs, over the YAML's sections
  --stage_scheduler NAME, --stage_scheduler_conf "{stages: [...]}"    instead of the YAML's
  --imports "MODULE ..."       modules of other packages that register losses, models, ..., beside the
                               YAML's imports (docs/extending.md)
  --download_model MODEL       instead of training: steps 1, 2, then decode and score with this packed
                               zip, Hub id or experiment, into --asr_exp or <expdir>/<its name>
                               (<expdir>/<its name>_evaluated where that is a training's folder);
                               its own search and LMs, or those of your --inference_config
  --init_from MODEL            fine-tuning: packed zip, experiment or stage folder, .pth or Hub id,
                               for the first stage, or --init_from_stage NAME
  --init_from_parts "PART,..."  only: encoder, encoder_output, prediction, joint (all)
  --rerun_stale true|false     redo steps whose inputs changed; old folders are moved aside (false)
  --force_alignment true|false train on an alignment that breaks its limits (false)
  --force_nbest true|false  train on N-best lists that break their limits (false)
Language models (--use_lm true: n-grams are made before step 6, as mbr may want them; step 8 uses all)
  --use_lm true|false          make and use what these name (false)
  --word_arpa FILE|train       word n-gram, ARPA or KenLM; train: made from --lm_train_text; also
                               the {--word_arpa} of the pipeline YAML's N-best lists
  --token_arpa FILE|train      n-gram over the model's labels
  --ngram_order N (3)          of those made here: <expdir>/ngram/{word,<token type>}_<N>gram.arpa
  --lm_config FILE             YAML of ESPnet's LM task: a neural model over the labels (step 7)
  --lm_exp DIR                 its folder (<expdir>/<name of the YAML>_<token list>)
  --lm_args "..."              for ESPnet's lm_train   --lm_fold_length N (150)
  --inference_lm FILE          its file to decode with (valid.loss.ave.pth)
  --lm_train_text, --lm_dev_text FILE    Kaldi texts (transcripts of training and validation set)
  --word_arpa_scale S, --token_arpa_scale S, --lm_weight S    scales in step 8, or
  --tune_scales true|false     tune them, and the internal LM's, on the validation set (false)
  --tune_passes N              lists made: 2 is once more, with the scales first chosen (1)
  --lm_grid, --ilm_grid "S ..."    scales to try (0 ... 1, 0 ... 0.4); --ilm_grid 0: no subtraction
Decoding
  --inference_config FILE      (conf/decode.yaml, if there is one)   --inference_tag NAME
  --inference_args "..."       options of decode that go before those of the file
  --inference_asr_model FILE   of every stage, such as 3epoch.pth (the stage's checkpoint)
  --decode_stages "NAME ..."   train stages to decode with, or: final (all)
  --eval_valid_set true|false  decode the validation set as well (true)
  --local_score_opts "..."     options of local/score.sh, for scoring of a corpus's own
Resources
  --ngpu N (0)   --num_nodes N (1)   --nj N (cores)   --inference_nj N (nj)
  --gpu_inference true|false (false)   --train_threads N (the environment's OMP_NUM_THREADS)
  --train_cmd, --cuda_cmd, --decode_cmd "..."    what starts statistics; training; alignment, N-best
                               lists and decoding: local, or "slurm.pl --mem 4G" (cmd.sh)
  --dumpdir DIR (dump)   --expdir DIR (exp)   --python PROGRAM (python3)
  --train_hours N              hours of training data, for doctor's disk space (not checked)
  --dump_copies N              how often they will be in the dump folder; 0: audio stays put (1)
  --probe_steps N              training steps to measure before training (2 with GPUs, else 0)
  --skip_doctor true|false     begin whatever this machine lacks (false)
  --preload true|false         without GPUs, import ESPnet once for all local steps (true)
  --preload_timeout N          seconds to wait for that (60); without it, programs start as ever
EOH
)

stage=1
stop_stage=12
skip_data_prep=false
skip_train=false
skip_eval=false
skip_packing=false
skip_upload_hf=true
hf_repo=
lang=
corpus=
upload_opts=
train_set=
valid_set=
test_sets=
local_data_opts=
feats_type=auto
fs=16000
audio_format=flac
channel=
speed_perturb_factors=
min_wav_duration=
max_wav_duration=
max_skipped=0.5
token_type=char
nbpe=500
bpemode=unigram
bpe_train_text=
bpe_nlsyms=
bpe_char_cover=1.0
bpe_input_sentence_size=100000000
nlsyms_txt=none
remove_nlsyms=true
cleaner=none
oov='<unk>'
blank='<blank>'
sos_eos='<sos/eos>'
lexicon=
g2p=
asr_config=conf/train_progressive.yaml
asr_tag=
asr_exp=
stage_scheduler=
stage_scheduler_conf=
imports=
asr_stats_dir=
asr_speech_fold_length=800
asr_text_fold_length=150
download_model=
init_from=
init_from_stage=
init_from_parts=
rerun_stale=false
force_alignment=false
force_nbest=false
use_lm=false
word_arpa=
token_arpa=
ngram_order=3
lm_config=
lm_exp=
lm_args=
lm_fold_length=150
inference_lm=valid.loss.ave.pth
lm_train_text=
lm_dev_text=
word_arpa_scale=
token_arpa_scale=
lm_weight=
tune_scales=false
tune_passes=1
lm_grid=
ilm_grid=
inference_config=
inference_tag=
inference_args=
inference_asr_model=
decode_stages=
eval_valid_set=true
local_score_opts=
ngpu=0
num_nodes=1
nj=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)  # which believes them
inference_nj=
gpu_inference=false
train_threads=
train_cmd=
cuda_cmd=
decode_cmd=
dumpdir=dump
expdir=exp
python=python3
train_hours=
dump_copies=1
probe_steps=
skip_doctor=false
preload=true
preload_timeout=60
stage_args=() # --<stage>_args "...", passed on as they are
by_user=' '   # names of the user's options: those after "--", or all

log() { printf '%s %s\n' "$(date '+%H:%M:%S')" "$*"; }
die() { printf 'progressive.sh: %s\n' "$*" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) printf '%s\n' "${help_message}"; exit 0 ;;
        --) by_user=' '; shift; continue ;;
        --?*) option=$1 ;;
        *) die "expected an option, got '$1' (--help lists them)" ;;
    esac
    name=${option#--}
    if [[ ${name} == *=* ]]; then
        value=${name#*=}; name=${name%%=*}; shift
    else
        [ $# -ge 2 ] || die "option ${option} needs a value"
        value=$2; shift 2
    fi
    name=${name//-/_}
    case "${name}" in
        help_message | stage_args | by_user | log | die | option | name | value) die "no option --${name}" ;;
        cmd) die "--cmd: the names are ESPnet's: --train_cmd, --cuda_cmd, --decode_cmd (cmd.sh)" ;;
        inference_args | lm_args) printf -v "${name}" '%s' "${value}"; by_user+="${name} " ;;
        *_args) stage_args+=("--${name}" "${value}"); by_user+="${name} " ;;
        *[!a-z0-9_]*) die "unknown option --${name} (--help lists them)" ;;
        *)
            [[ -v ${name} ]] || die "unknown option --${name} (--help lists them)"
            case "${!name-}" in
                true | false)
                    [[ ${value} == true || ${value} == false ]] ||
                        die "--${name} is true or false, got '${value}'" ;;
            esac
            printf -v "${name}" '%s' "${value}"
            by_user+="${name} " ;;
    esac
done

if [ -f ./path.sh ]; then
    # shellcheck source=/dev/null
    . ./path.sh
fi
if [ -f ./cmd.sh ]; then
    given=("${train_cmd}" "${cuda_cmd}" "${decode_cmd}")
    unset -v cmd
    # shellcheck source=/dev/null
    . ./cmd.sh || die "cmd.sh ended with an error (see above)"
    [ -z "${cmd-}" ] || die "cmd.sh sets cmd=${cmd}: the names are train_cmd, cuda_cmd, decode_cmd"
    train_cmd=${given[0]:-${train_cmd}} cuda_cmd=${given[1]:-${cuda_cmd}}
    decode_cmd=${given[2]:-${decode_cmd}}
fi
commands=()
for name in train_cmd cuda_cmd decode_cmd; do
    case "${!name}" in
        run.pl) printf -v "${name}" local ;; # which is what it means
        '') [ -z "${train_cmd}${cuda_cmd}${decode_cmd}" ] || die "${name} is not set, others are:" \
            "set all of train_cmd, cuda_cmd and decode_cmd, in cmd.sh or as options" ;;
    esac
    commands+=("--${name}" "${!name:-local}")
done
all_local=true
if [ "${commands[*]}" != "--train_cmd local --cuda_cmd local --decode_cmd local" ]; then
    all_local=false
    log "processes start through ${commands[*]}"
fi
for name in nlsyms_txt cleaner g2p; do
    [ "${!name}" != none ] || printf -v "${name}" '' # ESPnet's word for it
done
[ "${lang}" != noinfo ] || lang=
[ "${oov} ${blank} ${sos_eos}" = '<unk> <blank> <sos/eos>' ] ||
    die "--oov, --blank and --sos_eos: ESPnet's training knows no others than <unk>, <blank>, <sos/eos>"
[ -z "${nlsyms_txt}" ] || [ -f "${nlsyms_txt}" ] || die "--nlsyms_txt ${nlsyms_txt}: no such file"
[ -n "${train_set}" ] || die "--train_set is required"
[ -n "${valid_set}" ] || die "--valid_set is required"
[[ ${stage} =~ ^[0-9]+$ && ${stop_stage} =~ ^[0-9]+$ ]] || die "--stage and --stop_stage: numbers"
[[ ${preload_timeout} =~ ^[0-9]+$ ]] || die "--preload_timeout ${preload_timeout}: whole seconds"
[ "${skip_upload_hf}" = true ] || [ -n "${hf_repo}" ] ||
    die "--skip_upload_hf false needs --hf_repo OWNER/NAME"
[ -f "${asr_config}" ] || die "--asr_config ${asr_config}: no such file"
[ -z "${inference_config}" ] || [ -f "${inference_config}" ] ||
    die "--inference_config ${inference_config}: no such file"
if [ -n "${download_model}" ]; then # which brings its own search, tokens and language models
    for name in asr_tag inference_tag decode_stages use_lm word_arpa token_arpa ngram_order lm_config \
        lm_exp lm_args lm_train_text lm_dev_text inference_lm inference_asr_model \
        word_arpa_scale token_arpa_scale lm_weight tune_scales tune_passes \
        lm_grid ilm_grid stage_scheduler stage_scheduler_conf; do
        [[ ${by_user} != *" ${name} "* ]] || die "--${name} does not go with --download_model, which" \
            "decodes as its package says, or your --inference_config; --asr_exp DIR names the folder"
    done
    for name in ${by_user}; do
        [[ ${name} != *_args || ${name} = inference_args ]] || die "--${name} does not go with --download_model, which trains nothing"
    done
    [[ ${by_user} == *" inference_config "* ]] || inference_config=
    [[ ${by_user} == *" inference_args "* ]] || inference_args=
elif [ -z "${inference_config}" ] && [ -f conf/decode.yaml ]; then
    inference_config=conf/decode.yaml
fi
inference_nj=${inference_nj:-${nj}}
read -ra tests <<<"${test_sets}"
eval_sets=()
[ "${eval_valid_set}" = false ] || eval_sets=("${valid_set}")
for name in "${tests[@]}"; do # each once: a test set may be the validation set
    [[ " ${eval_sets[*]-} " == *" ${name} "* ]] || eval_sets+=("${name}")
done

case "${token_type}" in
    char | phn) token_dir=data/token_list/${token_type} ;;
    bpe) token_dir=data/token_list/bpe_${bpemode}${nbpe} ;;
    *) die "--token_type ${token_type}? char, bpe or phn" ;;
esac
tokens=(--token_type "${token_type}")
if [ "${token_type}" = bpe ]; then
    tokens+=(--bpemodel "${token_dir}/bpe.model")
elif [ "${token_type}" = phn ]; then
    tokens+=(--lexicon "${token_dir}/lexicon.txt")
fi
symbols=() # as make_tokens left them
[ -z "${nlsyms_txt}" ] || symbols=(--nlsyms_txt "${token_dir}/nlsyms.txt")

# OpenMP's threads wait for each other spinning, by default for milliseconds after every
# operation: beside another busy program they spin for a thread that is not running. This is a
# thirtieth of the default (benchmarks/RESULTS.md, "Run twice").
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"

# Importing ESPnet takes longer than most steps do on a small corpus: one server does it for all.
# Not with GPUs: CUDA does not survive a fork, and beside a GPU's training the time does not matter.
# Where the server does not start, every program imports ESPnet by itself.
begin_preload() {
    if ! preloaded=$(mktemp -d); then
        without_preload "no temporary folder could be made; set TMPDIR to one that may be written"
        return
    fi
    OMP_NUM_THREADS=1 "${python}" -m espnet_plugin preload "${preloaded}" \
        >"${preloaded}/log" 2>&1 &
    server=$!
    trap 'kill "${server}" 2>/dev/null || true; rm -rf "${preloaded}"' EXIT
}
# Sets launcher and python, for our programs and for those that they start.
await_preload() {
    local word
    [ -z "${server}" ] || find_launcher
    # As the programs' --python takes it: words quoted where a shell would split them.
    python=
    for word in "${launcher[@]}"; do
        [[ ${word} =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
        python+=${python:+ }${word}
    done
}
find_launcher() {
    local reason tick
    for ((tick = 0; tick < 20 * preload_timeout; tick++)); do
        if [ -f "${preloaded}/python" ]; then # made last, in one step
            launcher=("${preloaded}/python")
            # on a disk mounted noexec the kernel starts no script, but the shell reads it
            [ -x "${preloaded}/python" ] || launcher=(sh "${preloaded}/python")
            return
        fi
        kill -0 "${server}" 2>/dev/null || break
        sleep 0.05
    done
    reason="nothing from its server in ${preload_timeout} s (--preload_timeout)"
    if ! kill -0 "${server}" 2>/dev/null; then
        check_package
        reason=$(tail -n 1 "${preloaded}/log" || true)
        reason="its server ended: ${reason:-no word; is the disk of ${preloaded} full?}"
    fi
    kill "${server}" 2>/dev/null || true
    without_preload "${reason}"
}
without_preload() { log "no preload: $*. Every program imports ESPnet by itself, which is slower"; }
check_package() {
    "${python}" -c "import espnet_plugin" || die "${python} cannot import espnet_plugin (see above);" \
        "activate the environment that it was installed in, or give --python"
}

launcher=("${python}")
server=
if "${preload}" && "${all_local}" && [ "$(uname)" = Linux ] &&
    [ "${ngpu}${gpu_inference}" = 0false ] && [ "${stage}" -le 8 ] && [ "${stop_stage}" -ge 5 ]; then
    begin_preload
fi

# run NAME OPTIONS...: one of our programs
run() {
    local name=$1 status=0
    shift
    "${launcher[@]}" -m espnet_plugin "${name}" "$@" || status=$?
    [ "${status}" -ne 130 ] || exit 130 # Ctrl-C; the program has said so
    return "${status}"
}

# wanted N: whether step N is asked for
wanted() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] || return 1
    case "$1" in
        [1-5]) [ "${skip_data_prep}" = false ] ;;
        6 | 7) [ "${skip_train}" = false ] ;;
        11) [ "${skip_packing}" = false ] ;;
        12) [ "${skip_upload_hf}" = false ] ;;
        *) [ "${skip_eval}" = false ] ;;
    esac
}

# How the plan differs from the YAML's, and what else has to be imported: for all that read it.
read -ra modules <<<"${imports}"
importing=()
[ -z "${modules[*]}" ] || importing=(--imports "${modules[@]}")
plan=("${importing[@]}")
[ -z "${stage_scheduler}" ] || plan+=(--stage_scheduler "${stage_scheduler}")
[ -z "${stage_scheduler_conf}" ] || plan+=(--stage_scheduler_conf "${stage_scheduler_conf}")
[ -z "${init_from}" ] || plan+=(--init_from "${init_from}")
[ -z "${init_from_stage}" ] || plan+=(--init_from_stage "${init_from_stage}")
[ -z "${init_from_parts}" ] || plan+=(--init_from_parts "${init_from_parts}")

# local_score FOLDER: scoring of the corpus's own, if it has one
local_score() {
    [ -f local/score.sh ] || return 0
    log "step 9: local/score.sh ${local_score_opts}"
    eval "bash local/score.sh $(printf %q "$1") ${local_score_opts}"
}

wanted 1 || await_preload # else it imports beside step 1
if [ "${skip_doctor}" = false ] && [ "${stage}" -le 8 ]; then
    options=(--config "${asr_config}" "${plan[@]}" --expdir "${expdir}" --dumpdir "${dumpdir}" --fs "${fs}"
        --ngpu "${ngpu}" --num_nodes "${num_nodes}" --nj "${nj}" --quiet true
        "${commands[@]}" --dump_copies "${dump_copies}")
    [ -z "${train_hours}" ] || options+=(--train_hours "${train_hours}")
    [ "${g2p}" != g2p_en ] || options+=(--packages espnet-g2p-en)
    if ! run doctor "${options[@]}"; then
        ! wanted 1 || [ -z "${server}" ] || check_package
        die "this machine lacks something; --skip_doctor true begins all the same"
    fi
fi

if wanted 1; then
    if [ -f local/data.sh ]; then
        log "step 1: local/data.sh ${local_data_opts}"
        eval "bash local/data.sh ${local_data_opts}"
    else
        log "step 1: no local/data.sh; data/ is taken as it is"
    fi
    await_preload
fi

for data_set in "${train_set}" "${valid_set}" "${tests[@]}"; do
    [ -d "data/${data_set}" ] || die "data/${data_set}: no such folder; step 1 should make it"
done
if [ "${feats_type}" = auto ]; then
    feats_type=extracted
    if [ -f "data/${train_set}/wav.scp" ]; then
        feats_type=raw
    fi
fi
[[ ${feats_type} == raw || ${feats_type} == extracted ]] || die "--feats_type ${feats_type}?"
org=${dumpdir}/${feats_type}/org
base_set=${train_set} # its texts count once, however many copies are trained on
if [ -n "${speed_perturb_factors}" ]; then
    [ "${feats_type}" = raw ] || die "--speed_perturb_factors needs raw audio, not --feats_type ${feats_type}"
    train_set=${train_set}_sp
fi
dump=${dumpdir}/${feats_type}

if [ -z "${download_model}" ] && { wanted 2 || wanted 4; }; then
    mkdir -p "${dump}" # a configuration that does not fit is refused before anything is computed
    options=(--config "${asr_config}" "${plan[@]}")
    [ "${feats_type}" != raw ] || options+=(--fs "${fs}")
    run show_config "${options[@]}" >"${dump}/model.yaml" || die "${asr_config} does not fit (see above)"
fi

if wanted 2; then
    log "step 2: format data (${feats_type}) into ${org}"
    for data_set in "${base_set}" "${valid_set}" "${tests[@]}"; do
        run format_data --data_dir "data/${data_set}" --out_dir "${org}/${data_set}" \
            --feats_type "${feats_type}" --fs "${fs}" --nj "${nj}" \
            --audio_format "${audio_format}" --channel "${channel}" \
            --cleaner "${cleaner}"
    done
    if [ -n "${speed_perturb_factors}" ]; then
        read -ra factors <<<"${speed_perturb_factors}"
        run perturb_speed --data_dir "${org}/${base_set}" --out_dir "${org}/${train_set}" \
            --factors "${factors[@]}" --fs "${fs}" --nj "${nj}"
    fi
fi

if [ -n "${download_model}" ]; then
    evaluated=${expdir}/$(basename "${download_model}" .zip)
    if [ -f "${evaluated}/pipeline.json" ]; then
        evaluated+=_evaluated # it is the training's, which has results of its own
    fi
    evaluated=${asr_exp:-${evaluated}}
    if wanted 8; then
        log "step 8: decode and score ${eval_sets[*]} with ${download_model}"
        options=("--inference_args=${inference_args}")
        [ -z "${nlsyms_txt}" ] || [ "${remove_nlsyms}" = false ] || options+=(--nlsyms_txt "${nlsyms_txt}")
        run evaluate --model "${download_model}" --data "${eval_sets[@]/#/${org}/}" \
            --exp "${evaluated}" \
            --nj "${inference_nj}" --gpu_inference "${gpu_inference}" "${commands[@]}" \
            --python "${python}" ${inference_config:+--inference_config "${inference_config}"} \
            "${importing[@]}" "${options[@]}"
    fi
    if wanted 9; then
        local_score "${evaluated}"
    fi
    exit 0
fi

if wanted 3; then
    log "step 3: token list (${token_type})"
    text=${bpe_train_text:-${org}/${base_set}/text}
    options=(--token_type "${token_type}" --text "${text}" --nbpe "${nbpe}" --bpemode "${bpemode}"
        --bpe_char_cover "${bpe_char_cover}" --bpe_input_sentence_size "${bpe_input_sentence_size}")
    [ -z "${bpe_nlsyms}" ] || options+=(--bpe_nlsyms "${bpe_nlsyms}")
    [ -z "${nlsyms_txt}" ] || options+=(--nlsyms_txt "${nlsyms_txt}")
    [ -z "${bpe_train_text}" ] || [ -z "${cleaner}" ] || options+=(--cleaner "${cleaner}")
    if [ "${token_type}" = phn ]; then
        [ -n "${lexicon}" ] || die "--token_type phn needs --lexicon"
        options+=(--lexicon "${lexicon}" --other_text "${lm_dev_text:-${org}/${valid_set}/text}")
    fi
    [ -z "${g2p}" ] || options+=(--g2p "${g2p}")
    run make_tokens "${options[@]}"
fi

if wanted 4; then
    log "step 4: check data"
    options=(--feats_type "${feats_type}" --nj "${nj}" --max_skipped "${max_skipped}"
        --config "${dump}/model.yaml" "${tokens[@]}" --token_list "${token_dir}/tokens.txt"
        "${symbols[@]}")
    [ -z "${min_wav_duration}" ] || options+=(--min_wav_duration "${min_wav_duration}")
    [ -z "${max_wav_duration}" ] || options+=(--max_wav_duration "${max_wav_duration}")
    [ "${feats_type}" != raw ] || options+=(--fs "${fs}")
    run check_sets --org "${org}" --dump "${dump}" --train_sets "${train_set}" "${valid_set}" \
        --test_sets "${tests[@]}" -- "${options[@]}"
fi

tag=${asr_tag:-$(basename "${asr_config}" .yaml)_${feats_type}_$(basename "${token_dir}")}
asr_home=${expdir}
if [ -n "${asr_exp}" ]; then
    asr_home=$(dirname "${asr_exp}")
    tag=$(basename "${asr_exp}")
fi
word_ngram=${word_arpa} token_ngram=${token_arpa}
if [ "${word_arpa}" = train ]; then
    word_ngram=${expdir}/ngram/word_${ngram_order}gram.arpa
fi
if [ "${token_arpa}" = train ]; then
    token_ngram=${expdir}/ngram/$(basename "${token_dir}")_${ngram_order}gram.arpa
fi
stats=${asr_stats_dir:-${expdir}/stats_${feats_type}_$(basename "${token_dir}")_${train_set}}
pipeline=(--config "${asr_config}" "${plan[@]}" --expdir "${asr_home}" --tag "${tag}" "${tokens[@]}"
    --train_data "${dump}/${train_set}" --valid_data "${dump}/${valid_set}"
    --stats_dir "${stats}" --feats_type "${feats_type}" --fs "${fs}"
    --token_list "${token_dir}/tokens.txt" --ngpu "${ngpu}" --num_nodes "${num_nodes}"
    --nj "${nj}" --inference_nj "${inference_nj}" --gpu_inference "${gpu_inference}"
    "${commands[@]}" --python "${python}"
    --asr_speech_fold_length "${asr_speech_fold_length}" --asr_text_fold_length "${asr_text_fold_length}"
    --rerun_stale "${rerun_stale}" "${stage_args[@]}")
if [ -n "${nlsyms_txt}" ] && [ "${token_type}" = char ]; then
    pipeline+=(--non_linguistic_symbols "${token_dir}/nlsyms.txt")
fi
[ -z "${train_threads}" ] || pipeline+=(--train_threads "${train_threads}")
[ -z "${word_ngram}" ] || pipeline+=(--word_arpa "${word_ngram}") # for N-best lists that ask for it

if wanted 5; then
    log "step 5: statistics in ${stats}"
    run collect_stats "${pipeline[@]}"
fi

lm_exp=${lm_exp:-${expdir}/$(basename "${lm_config}" .yaml)_$(basename "${token_dir}")}
lm_texts=("${lm_train_text:-${org}/${base_set}/text}" "${lm_dev_text:-${org}/${valid_set}/text}")

# N-grams take seconds, and the N-best lists of the mbr stage may want them.
if "${use_lm}" && { wanted 6 || wanted 7; }; then
    options=(--order "${ngram_order}" --text "${lm_texts[0]}" --valid_text "${lm_texts[1]}")
    [ -z "${cleaner}" ] || [ -z "${lm_train_text}" ] || options+=(--cleaner "${cleaner}")
    if [ "${word_arpa}" = train ]; then
        log "word n-gram in ${word_ngram}"
        run train_ngram "${options[@]}" --out "${word_ngram}"
    fi
    if [ "${token_arpa}" = train ]; then
        log "label n-gram in ${token_ngram}"
        run train_ngram "${options[@]}" --out "${token_ngram}" --units "${tokens[@]:1}" "${symbols[@]}"
    fi
fi

if wanted 6; then
    log "step 6: train stages in ${asr_home}/${tag}"
    probe_steps=${probe_steps:-$((ngpu > 0 ? 2 : 0))}
    run plan "${pipeline[@]}" --probe_steps "${probe_steps}" ||
        die "the plan does not hold here (see above); --probe_steps 0 trains without measuring first"
    run train "${pipeline[@]}" --force_alignment "${force_alignment}" \
        --force_nbest "${force_nbest}"
fi

if wanted 7 && "${use_lm}" && [ -n "${lm_config}" ]; then
    log "step 7: language model in ${lm_exp}"
    options=(--config "${lm_config}" --lm_exp "${lm_exp}" --ngpu "${ngpu}" --num_nodes "${num_nodes}"
        --train_text "${lm_texts[0]}" --valid_text "${lm_texts[1]}" "${tokens[@]}" "${symbols[@]}"
        --token_list "${token_dir}/tokens.txt" "--lm_args=${lm_args}"
        --lm_fold_length "${lm_fold_length}")
    [ -z "${cleaner}" ] || [ -z "${lm_train_text}" ] || options+=(--cleaner "${cleaner}")
    run train_lm "${options[@]}" "${commands[@]}" --python "${python}"
fi

if wanted 8; then
    log "step 8: decode ${eval_sets[*]}"
    options=()
    [ -z "${inference_config}" ] || options+=(--inference_config "${inference_config}")
    [ -z "${inference_tag}" ] || options+=(--inference_tag "${inference_tag}")
    if [ -n "${decode_stages}" ]; then
        read -ra names <<<"${decode_stages}"
        options+=(--decode_stages "${names[@]}")
    fi
    [ -z "${inference_args}" ] || options+=("--inference_args=${inference_args}")
    [ -z "${inference_asr_model}" ] || options+=(--inference_asr_model "${inference_asr_model}")
    options+=(--tune_scales "${tune_scales}" --tune_passes "${tune_passes}")
    if [ -n "${lm_grid}" ]; then
        read -ra values <<<"${lm_grid}"
        options+=(--lm_grid "${values[@]}")
    fi
    if [ -n "${ilm_grid}" ]; then
        read -ra values <<<"${ilm_grid}"
        options+=(--ilm_grid "${values[@]}")
    fi
    if "${use_lm}"; then
        models=()
        if [ -n "${word_ngram}" ]; then
            models+=("word:${word_ngram}${word_arpa_scale:+:${word_arpa_scale}}")
        fi
        if [ -n "${token_ngram}" ]; then
            models+=("ngram:${token_ngram}${token_arpa_scale:+:${token_arpa_scale}}")
        fi
        if [ -n "${lm_config}" ]; then
            models+=("espnet:${lm_exp}/${inference_lm}${lm_weight:+:${lm_weight}}")
        fi
        [ -z "${models[*]}" ] || options+=(--lm "${models[@]}")
    fi
    run decode_stages "${pipeline[@]}" "${options[@]}" \
        --decode_data "${eval_sets[@]/#/${dump}/}"
fi

if wanted 9; then
    log "step 9: score"
    # Against all references: an utterance that the checks left out counts as deleted words.
    run score --exp "${asr_home}/${tag}" --data_dir "${org}" --sets "${eval_sets[@]}" "${tokens[@]}" \
        "${symbols[@]}" --remove_nlsyms "${remove_nlsyms}"
    local_score "${asr_home}/${tag}"
fi

if wanted 10; then
    log "step 10: report"
    run report --exp "${asr_home}/${tag}"
    log "results: $(realpath -m "${asr_home}/${tag}/RESULTS.md")"
    log "report:  $(realpath -m "${asr_home}/${tag}/report/report.md")"
fi

packed_model=${asr_home}/${tag}/${tag}.zip
if wanted 11; then
    log "step 11: pack"
    options=() # of the search: those of the last decoding
    if [ -n "${inference_tag}" ]; then
        options+=(--inference_tag "${inference_tag}")
    elif [ ! -d "${asr_home}/${tag}/decode" ] && [ -n "${inference_config}" ]; then
        options+=(--inference_config "${inference_config}")
    fi
    run pack --exp "${asr_home}/${tag}" --outpath "${packed_model}" \
        --valid_data "${dump}/${valid_set}" "${options[@]}"
fi

if wanted 12; then
    log "step 12: upload to ${hf_repo}"
    # A recipe's folder is egs2/<corpus>/asr1, or a clone anywhere, whose run.sh names the corpus.
    options=(--datasets "${corpus:-$(basename "$(dirname "${PWD}")")}")
    [ -z "${lang}" ] || options+=(--language "${lang}")
    read -ra more <<<"${upload_opts}"
    run upload --pack "${packed_model}" --hf_repo "${hf_repo}" "${options[@]}" "${more[@]}"
fi

exit 0
}
