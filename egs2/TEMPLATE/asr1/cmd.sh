# shellcheck shell=bash
# How processes are started. "local": on this machine. Anything else is called in Kaldi's manner,
# `$cmd JOB=1:nj log program ...`; take run.pl, slurm.pl, queue.pl, ssh.pl from Kaldi or ESPnet.
#   cmd: alignment, N-best, decoding and statistics jobs.
#   train_cmd: training; ESPnet's launcher adds --gpu and the number of nodes.
# Example (Slurm): cmd="slurm.pl --mem 4G" train_cmd="slurm.pl --mem 16G"
export cmd=${cmd:-local}
export train_cmd=${train_cmd:-local}
