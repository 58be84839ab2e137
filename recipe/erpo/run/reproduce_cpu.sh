#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
# The whole chain of docs/reproduce.md on a CPU: prepare, train, evaluate, residual share, table.
set -euo pipefail

usage() {
    cat <<'EOF'
Go through docs/reproduce.md on a laptop's CPU, with the tiny model and its arithmetic in place of Qwen2.5 and its sets.

    reproduce_cpu.sh [--model FOLDER] [--steps N] [--methods "NAME..."] [--prompts N] [--dry-run] OUT [SETTING...]

  OUT         folder of everything that is written
  --model     a Hugging Face folder to start from (default: the quickstart's base model)
  --steps     training steps (default: 8)
  --methods   methods to compare (default: "grpo erpo")
  --prompts   training prompts, and test prompts (default: 128)
  --dry-run   print the commands and do nothing
  --help      this text
  SETTING     any setting of verl or ERPO, for the training runs

PYTHON names the interpreter (default: python). The same command continues what was cut off.
EOF
}

fail() {
    echo "error: $1" >&2
    exit 1
}

dry_run=false
model=""
steps=8
methods="grpo erpo"
prompts=128
arguments=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --dry-run) dry_run=true ;;
        --model | --steps | --methods | --prompts)
            [[ -n ${2:-} ]] || fail "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
((${#arguments[@]})) || fail "no folder is named; add one, as in runs/reproduce_cpu"
[[ $steps =~ ^[1-9][0-9]*$ ]] || fail "--steps needs a number of steps, as in --steps 8"
[[ $prompts =~ ^[1-9][0-9]*$ ]] || fail "--prompts needs a number of prompts, as in --prompts 128"
out=${arguments[0]}
settings=("${arguments[@]:1}")
python=${PYTHON:-python}

run() {
    printf '\n==> '
    printf '%q ' "$@"
    echo
    $dry_run || "$@"
}

model=${model:-$(cd "$(dirname "$0")/../../.." && pwd)/erpo/tasks/arithmetic/base_model}

# The arithmetic problems, as a set of mathematics would come: a file of problems and answers.
run "$python" -m erpo.tasks.arithmetic.export --train-prompts "$prompts" --test-prompts "$prompts" --out "$out/source"
run "$python" -m recipe.erpo.prepare_data dapo_math_17k --source "$out/source/train.jsonl" --template '{problem}' \
    --out "$out/data"
run "$python" -m recipe.erpo.prepare_data math --split test --source "$out/source/test.jsonl" --template '{problem}' \
    --out "$out/data"

for method in $methods; do
    run "$python" -m recipe.erpo.main_erpo experiment=cpu_arithmetic '~arithmetic' "method=$method" \
        "data.train_files=$out/data/dapo_math_17k.parquet" "data.val_files=$out/data/math_test.parquet" \
        "actor_rollout_ref.model.path=$model" trainer.val_before_train=false trainer.test_freq=-1 \
        "trainer.total_training_steps=$steps" "trainer.default_local_dir=$out/$method" "${settings[@]}"
    run "$python" -m recipe.erpo.main_eval "model=$out/$method" 'sets=[math_test]' "data_folder=$out/data" n=8 top_p=1.0
done

run "$python" -m recipe.erpo.residual_share "model=$model" data=dapo_math_17k "data_folder=$out/data" n=8 \
    'temperatures=[1.0,1.2,1.5,2.0]' max_response_length=32 reward_function=pkg://erpo.tasks.arithmetic.reward \
    "out=$out/residual_share"

runs=()
for method in $methods; do runs+=("$out/$method"); done
run "$python" -m recipe.erpo.tables "${runs[@]}" --out "$out/table.md"
