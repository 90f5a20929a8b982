# shellcheck shell=bash
# Where corpora are on this machine; an empty one is downloaded if its recipe can do that.
# A folder, or the .tar.gz it comes in:
export AN4=${AN4:-}
# A clone of github.com/besacier/mboshi-french-parallel-corpus, or the tar of Ogg Opus files; not downloaded:
export MBOSHI=${MBOSHI:-}
# The folder with LibriSpeech/, the archives of OpenSLR 12 unpacked:
export LIBRISPEECH=${LIBRISPEECH:-}
# Switchboard. Nothing of it can be downloaded but the transcripts (openslr.org/5). The folders that
# hold the .sph files; swb_ms98_transcriptions; hub5e_00; 2000_hub5_eng_eval_tr; hub5e_01; LDC2007S10;
# fe_03_p1_tran; fe_03_p2_tran. Only the first two are required.
export SWBD=${SWBD:-}
export SWBD_MS98=${SWBD_MS98:-}
export EVAL2000_AUDIO=${EVAL2000_AUDIO:-}
export EVAL2000_TEXT=${EVAL2000_TEXT:-}
export HUB5E01=${HUB5E01:-}
export RT03=${RT03:-}
export FISHER_P1=${FISHER_P1:-}
export FISHER_P2=${FISHER_P2:-}
