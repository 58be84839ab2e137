#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
# Several nodes without a scheduler: Ray is started on each of them, and the head trains.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"

usage() {
    cat <<'EOF'
Train on several nodes through Ray.

  on the first node:
    multi_node_ray.sh head --nodes N [--gpus N] [--port P] [--ip IP] [--ray OPTION]... [--dry-run]
                      experiment=NAME [method=NAME] [SETTING...]
  on every other node:
    multi_node_ray.sh worker IP:PORT [--ray OPTION]... [--dry-run]

  --nodes N    nodes, the first one included; training starts when all have joined
  --gpus N     GPUs of each node (default: the experiment's)
  --port P     port of Ray's head (default: 6379)
  --ip IP      IPv4 address of the first node, as the others see it (default: HEAD_IP, or the address of the route out)
  --ray OPTION a further option of "ray start", repeatable, as in --ray --num-cpus=64
  --dry-run    print the commands and do nothing
  --help       this text
  SETTING      any setting of verl or ERPO, as for python -m recipe.erpo.main_erpo

PYTHON names the interpreter (default: python); every node needs the same environment. Data, model and run folder must
be on storage that all nodes see under the same path: start the script in the same folder on every node. Set
environment variables (HF_HOME, NCCL_*) on every node before. Ray's nodes need the same token in ~/.ray/auth_token;
"ray get-auth-token --generate" makes it, and RAY_AUTH_MODE=disabled switches the check off. The workers end with the
head.
EOF
}

role=${1:-}
dry_run=false
nodes="" gpus="" port=6379 ip=""
ray=("${PYTHON:-python}" -m ray.scripts.scripts start --block --disable-usage-stats)
settings=()
case $role in
    -h | --help) usage && exit 0 ;;
    head | worker) shift ;;
    *) fail "the first argument is the role, head or worker; see --help" ;;
esac
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=true ;;
        --nodes | --gpus | --port | --ip | --ray)
            (($# > 1)) || fail "$1 needs a value; see --help"
            case $1 in
                --nodes) nodes=$2 ;;
                --gpus) gpus=$2 ;;
                --port) port=$2 ;;
                --ip) ip=$2 ;;
                --ray) ray+=("$2") ;;
            esac
            shift
            ;;
        *) settings+=("$1") ;;
    esac
    shift
done

if [[ $role == worker ]]; then
    [[ ${#settings[@]} == 1 && ${settings[0]} =~ ^[^:=]+:[0-9]+$ ]] ||
        fail "a worker needs the head's address and nothing else, as in worker 10.0.0.1:6379"
    address=${settings[0]}
    $dry_run && show "${ray[@]}" --address="$address" && exit 0
    until (exec 3<>"/dev/tcp/${address%:*}/${address#*:}") 2>/dev/null; do sleep 1; done
    exec "${ray[@]}" --address="$address"
fi

[[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "--nodes needs the number of nodes, as in --nodes 2"
[[ -z $gpus || $gpus =~ ^[1-9][0-9]*$ ]] || fail "--gpus needs a number of GPUs, as in --gpus 8"
require_experiment qwen2_5_32b "${settings[@]}"
choose_head "$ip" "$port"

command=("${PYTHON:-python}" -m recipe.erpo.main_erpo trainer.nnodes="$nodes")
[[ -z $gpus ]] || command+=("trainer.n_gpus_per_node=$gpus")
command+=("${settings[@]}")
ray+=(--head --node-ip-address="$ip" --port="$port")
wait_for_nodes=("${PYTHON:-python}" -m recipe.erpo.run.wait_for_nodes "$RAY_ADDRESS" "$nodes")

if $dry_run; then
    show "${ray[@]}"
    show "${wait_for_nodes[@]}"
    show env RAY_ADDRESS="$RAY_ADDRESS" "${command[@]}"
    exit 0
fi
echo "on the other nodes: multi_node_ray.sh worker $RAY_ADDRESS"
"${ray[@]}" &
head=$!
"${wait_for_nodes[@]}" &
waiting=$!
trap 'kill "$waiting" "$head" 2>/dev/null || true; wait "$head" || true' EXIT
wait -n "$head" "$waiting"
kill -0 "$head" 2>/dev/null || fail "Ray's head has ended; its reason is above"
"${command[@]}"
