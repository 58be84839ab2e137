#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
# Several nodes under Slurm: srun starts Ray on all of them, and the first one trains.
#SBATCH --job-name=erpo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=48:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
#SBATCH --output=%x-%j.log
set -euo pipefail
# Slurm runs a copy of this file, from a folder of its own; it also knows where the file lies.
folder=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
if [[ ! -f $folder/common.sh && -n ${SLURM_JOB_ID:-} ]]; then
    folder=$(dirname "$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')")
fi
[[ -f $folder/common.sh ]] || {
    echo "error: there is no common.sh in $folder; leave slurm.sh beside it, where the first node sees both" >&2
    exit 1
}
# shellcheck source-path=SCRIPTDIR
source "$folder/common.sh"

usage() {
    cat <<'EOF'
Train under Slurm, on one node or several.

    sbatch [SBATCH OPTION...] slurm.sh [--ip IP] experiment=NAME [method=NAME] [SETTING...]
    slurm.sh [--ip IP] --dry-run experiment=NAME [method=NAME] [SETTING...]

  SBATCH OPTION  as in --nodes=1 --gpus-per-node=4 --account=...; the lines #SBATCH of this file are the defaults
  --ip IP        IPv4 address of the first node, as the others see it (default: HEAD_IP, or the address of the route out)
  --dry-run      print the commands and do nothing; outside a job as if for 2 nodes of 8 GPUs
  --help         this text
  SETTING        any setting of verl or ERPO, as for python -m recipe.erpo.main_erpo

PYTHON names the interpreter (default: python), PORT the port of Ray's head (default: 6379). Data, model, run folder
and this script's folder must be on storage that all nodes see. Ray's nodes need the same token in ~/.ray/auth_token,
so they must share the home folder; "ray get-auth-token --generate" makes the token, and RAY_AUTH_MODE=disabled
switches the check off.
CONTAINER names an image in which everything runs (pyxis); the current folder and CONTAINER_MOUNTS are mounted.
Five minutes before its end, or when it is preempted with a grace time, the job saves at the end of its step and queues
itself again. A job that Slurm starts again continues its run.
EOF
}

dry_run=false
settings=() ip=""
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=true ;;
        --ip)
            (($# > 1)) || fail "--ip needs a value; see --help"
            ip=$2
            shift
            ;;
        *) settings+=("$1") ;;
    esac
    shift
done
require_experiment qwen2_5_3b "${settings[@]}"
$dry_run || [[ -n ${SLURM_JOB_ID:-} ]] || fail "this is no Slurm job; start it with sbatch, or use --dry-run"

python=${PYTHON:-python}
port=${PORT:-6379}
nodes=${SLURM_JOB_NUM_NODES:-2}
# Slurm writes a bare number, or the type before it as in a100:4 or gpu:a100:4, and a list where types are mixed.
gpus=${SLURM_GPUS_ON_NODE:-${SLURM_GPUS_PER_NODE:-8}}
gpus=${gpus%%(*}
[[ $gpus != *,* ]] || fail "a node has GPUs of several types ($gpus); ask for one, as in --gpus-per-node=a100:4"
gpus=${gpus##*:}
[[ $gpus =~ ^[1-9][0-9]*$ ]] || fail "Slurm gives '$gpus' GPUs on a node; ask for them, as in --gpus-per-node=8"
cpus=${SLURM_CPUS_PER_TASK:-64}
# The batch script runs on the first node of the job, where srun puts its first task too.
choose_head "$ip" "$port"

# Arguments: interpreter, address of the head, port, CPUs of a node.
# shellcheck disable=SC2016
node='ray=("$1" -m ray.scripts.scripts start --block --disable-usage-stats --num-cpus="$4")
if [[ $SLURM_PROCID == 0 ]]; then exec "${ray[@]}" --head --node-ip-address="$2" --port="$3"; fi
until (exec 3<>"/dev/tcp/$2/$3") 2>/dev/null; do sleep 1; done
exec "${ray[@]}" --address="$2:$3"'
in_container=() on_head=()
if [[ -n ${CONTAINER:-} ]]; then
    in_container=(--container-image="$CONTAINER" --container-workdir="$PWD"
        --container-mounts="$PWD:$PWD${CONTAINER_MOUNTS:+,$CONTAINER_MOUNTS}")
    # The batch script itself runs outside.
    on_head=(srun --overlap --nodes=1 --ntasks=1 --nodelist="${SLURMD_NODENAME:-$(hostname)}" "${in_container[@]}")
fi
cluster=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus" "${in_container[@]}"
    bash -c "$node" ray-node "$python" "$ip" "$port" "$cpus")
wait_for_nodes=("${on_head[@]}" "$python" -m recipe.erpo.run.wait_for_nodes "$RAY_ADDRESS" "$nodes")
command=("${on_head[@]}" "$python" -m recipe.erpo.main_erpo trainer.nnodes="$nodes" trainer.n_gpus_per_node="$gpus" "${settings[@]}")

if $dry_run; then
    show "${cluster[@]}"
    show "${wait_for_nodes[@]}"
    show env RAY_ADDRESS="$RAY_ADDRESS" "${command[@]}"
    exit 0
fi
"${cluster[@]}" &
ray=$!
"${wait_for_nodes[@]}" &
waiting=$!
trap 'kill "$waiting" "$ray" 2>/dev/null || true; wait "$ray" || true' EXIT
wait -n "$ray" "$waiting"
kill -0 "$ray" 2>/dev/null || fail "Ray has ended; its reason is above"
# Bash does not hand a signal on, and while it waits in the foreground it does not even look at it.
"${command[@]}" &
training=$!
trap 'told=true; kill -TERM "$training" 2>/dev/null || true' TERM
code=0 told=true
# A signal ends the wait, not the training; the code of one that ended meanwhile is given by the next wait, once.
while $told; do
    told=false
    wait "$training" && status=0 || status=$?
    ((status == 127)) || code=$status
done
# The code of a run that saved because it was told to end.
if ((code == 75)); then scontrol requeue "$SLURM_JOB_ID" || true; fi
exit "$code"
