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
#SBATCH --output=%x-%j.log
set -euo pipefail

usage() {
    cat <<'EOF'
Train under Slurm, on one node or several.

    sbatch [SBATCH OPTION...] slurm.sh experiment=NAME [method=NAME] [SETTING...]
    slurm.sh --dry-run experiment=NAME [method=NAME] [SETTING...]

  SBATCH OPTION  as in --nodes=1 --gpus-per-node=4 --account=...; the lines #SBATCH of this file are the defaults
  --dry-run      print the commands and do nothing; outside a job as if for 2 nodes of 8 GPUs
  --help         this text
  SETTING        any setting of verl or ERPO, as for python -m recipe.erpo.main_erpo

PYTHON names the interpreter (default: python), PORT the port of Ray's head (default: 6379). Data, model and run folder
lie on storage that all nodes see. Ray's nodes know each other by the token in ~/.ray/auth_token on a home that they
share: where there is none, "ray get-auth-token --generate" makes it; RAY_AUTH_MODE=disabled does without. A job that
Slurm starts again continues its run, as the same command does.
EOF
}

fail() {
    echo "error: $1" >&2
    exit 1
}

# Ray starts a head that asks for the token wherever there is one, but connects with it only if told to.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}

show() {
    printf '%q ' "$@"
    echo
}

dry_run=false
settings=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=true ;;
        *) settings+=("$1") ;;
    esac
    shift
done
[[ " ${settings[*]}" == *" experiment="* ]] || fail "no experiment is named; add one, as in experiment=qwen2_5_3b"
$dry_run || [[ -n ${SLURM_JOB_ID:-} ]] || fail "this is no Slurm job; start it with sbatch, or use --dry-run"

python=${PYTHON:-python}
port=${PORT:-6379}
nodes=${SLURM_JOB_NUM_NODES:-2}
gpus=${SLURM_GPUS_ON_NODE:-8}
cpus=${SLURM_CPUS_PER_TASK:-64}
# The batch script runs on the first node of the job, where srun puts its first task too.
ip=$(hostname -I | cut -d ' ' -f 1)
export RAY_ADDRESS=$ip:$port

# Arguments: interpreter, address of the head, port, CPUs of a node.
# shellcheck disable=SC2016
node='ray=("$1" -m ray.scripts.scripts start --block --disable-usage-stats --num-cpus="$4")
if [[ $SLURM_PROCID == 0 ]]; then exec "${ray[@]}" --head --node-ip-address="$2" --port="$3"; fi
until (exec 3<>"/dev/tcp/$2/$3") 2>/dev/null; do sleep 1; done
exec "${ray[@]}" --address="$2:$3"'
cluster=(srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus"
    bash -c "$node" ray-node "$python" "$ip" "$port" "$cpus")
wait_for_nodes=("$python" -m recipe.erpo.run.wait_for_nodes "$RAY_ADDRESS" "$nodes")
command=("$python" -m recipe.erpo.main_erpo trainer.nnodes="$nodes" trainer.n_gpus_per_node="$gpus" "${settings[@]}")

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
"${command[@]}"
