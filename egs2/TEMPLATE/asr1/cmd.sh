# shellcheck shell=bash
# How processes are started, in ESPnet's names; ESPnet's own cmd.sh may take this file's place.
#   train_cmd:  statistics.
#   cuda_cmd:   training, to which ESPnet's launcher adds --gpu and the number of nodes; with
#               --gpu_inference true also what decode_cmd starts otherwise, with --gpu 1.
#   decode_cmd: alignment, N-best lists, decoding.
# All else (preparation, formatting, checks, n-grams, scores) runs where this is called. The scripts
# are Kaldi's, `slurm.pl --mem 4G JOB=1:nj log program ...`; take them from Kaldi or ESPnet, onto PATH.
cmd_backend=${cmd_backend:-local}

case "${cmd_backend}" in
    local) # this machine
        export train_cmd=local
        export cuda_cmd=local
        export decode_cmd=local
        ;;
    stdout) # this machine, logs on the console too
        export train_cmd="stdout.pl"
        export cuda_cmd="stdout.pl"
        export decode_cmd="stdout.pl"
        ;;
    sge) # qsub (SGE, Torque, PBS); queue and memory: conf/queue.conf
        export train_cmd="queue.pl"
        export cuda_cmd="queue.pl"
        export decode_cmd="queue.pl"
        ;;
    slurm) # sbatch; partitions: conf/slurm.conf
        export train_cmd="slurm.pl"
        export cuda_cmd="slurm.pl"
        export decode_cmd="slurm.pl"
        ;;
    ssh) # hosts: .queue/machines
        export train_cmd="ssh.pl"
        export cuda_cmd="ssh.pl"
        export decode_cmd="ssh.pl"
        ;;
    *)
        echo "cmd.sh: unknown cmd_backend=${cmd_backend}; known: local, stdout, sge, slurm, ssh" >&2
        return 1
        ;;
esac
