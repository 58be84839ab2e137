#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
# One node: main_erpo starts a Ray of its own and ends it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"

usage() {
    cat <<'EOF'
Train on one node.

    one_node.sh [--gpus N] [--dry-run] experiment=NAME [method=NAME] [SETTING...]

  --gpus N    GPUs of this node (default: the experiment's)
  --dry-run   print the command and do nothing
  --help      this text
  SETTING     any setting of verl or ERPO, as for python -m recipe.erpo.main_erpo

PYTHON names the interpreter (default: python). Relative paths, such as data/ and runs/, start in the current folder.
The same command continues a run that was interrupted.
EOF
}

dry_run=false
gpus=""
settings=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=true ;;
        --gpus)
            gpus=${2:-}
            [[ $gpus =~ ^[1-9][0-9]*$ ]] || fail "--gpus needs a number of GPUs, as in --gpus 4"
            shift
            ;;
        *) settings+=("$1") ;;
    esac
    shift
done
require_experiment qwen2_5_3b "${settings[@]}"

# Without an address Ray joins a cluster that somebody else has started on this node.
command=("${PYTHON:-python}" -m recipe.erpo.main_erpo trainer.nnodes=1 ++ray_kwargs.ray_init.address=local)
[[ -z $gpus ]] || command+=("trainer.n_gpus_per_node=$gpus")
command+=("${settings[@]}")

if $dry_run; then
    show "${command[@]}"
    exit 0
fi
unset RAY_ADDRESS
exec "${command[@]}"
