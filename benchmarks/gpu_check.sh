#!/usr/bin/env bash
# What one GPU makes of the training loops, in eight minutes and without a network: the distillation step and
# fine-tuning against the plain ones, memory, fp16, bf16 and float32, NCCL with one process, memory that runs out.
#
#   benchmarks/gpu_check.sh out               on the GPU
#   benchmarks/gpu_check.sh --dry-run out     the same commands at toy size on the processor
#
# out/records.tar.gz has the records and what each step said; out/summary.txt a line for each step.
# SECONDS_ALLOWED=470 is shared out in order: what has no time left is named as not run. STEPS="nccl …" runs these alone.
set -euo pipefail
cd "$(dirname "$0")/.."
DRY=""
if [ "${1:-}" = --dry-run ]; then DRY=yes SECONDS_ALLOWED=${SECONDS_ALLOWED:-3600}; shift; fi
[ -n "${1:-}" ] || { sed -n '2,10p' "$0"; exit 2; }
OUT=$(realpath -m "$1") ALLOWED=${SECONDS_ALLOWED:-470} BEGAN=$(date +%s)
export DISTILNB_HOME=$OUT/home DISTILNB_CACHE=$OUT/cache HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mkdir -p "$OUT/logs" "$DISTILNB_HOME"
: > "$OUT/summary.txt"
trap 'tar -C "$OUT" -czf "$OUT/records.tar.gz" $(cd "$OUT" && ls -d summary.txt logs home/runs/*.json 2>/dev/null)' EXIT

# step NAME MOST_SECONDS COMMAND…: run it in what is left of the time, and say in one line how it went
step() {
    local name=$1 most=$2 left=$((ALLOWED - $(date +%s) + BEGAN)) began=$(date +%s) word=done
    shift 2
    [[ " ${STEPS:-$name} " == *" $name "* ]] || return 0
    [ -z "$DRY" ] || most=3600
    if ((left < 10)); then echo "$name: not run, no time left" | tee -a "$OUT/summary.txt"; return; fi
    timeout --signal=TERM $((left < most ? left : most)) "$@" >"$OUT/logs/$name.log" 2>&1 || word="failed ($?)"
    echo "$name: $word in $(($(date +%s) - began)) s" | tee -a "$OUT/summary.txt"
}

if [ -n "$DRY" ]; then
    size=mini tuning=toy cpu=--cpu rounds=1 tokens=4000 many=4000 large="--scale toy --batch_size 64 --micro_batch_size 64"
    precisions="no bf16"
else
    size=base tuning=base cpu="" rounds=3 tokens=2000000 many=4000000 precisions="no bf16 fp16"
    # more than any one card holds: it must be halved, told and recorded
    large="--scale base --teacher random:base --text toyworld --seq_length 512 --batch_size 4096 --micro_batch_size 4096"
fi
distil() { echo python -m distilnb distil "$@" $cpu; }
for precision in $precisions; do
    step "distil-$precision" 60 $(distil --scale toy --precision "$precision" --tokens "$tokens" --name "gpu-$precision")
done
step nccl 60 python -m torch.distributed.run --standalone --nproc_per_node 1 -m distilnb distil --scale toy \
    --tokens "$tokens" --name gpu-nccl $cpu
step out-of-memory 90 $(distil $large --tokens "${many}" --name gpu-out-of-memory)
step pretraining-step 150 python benchmarks/pretraining_step.py --size $size --rounds $rounds --steps 1
step finetuning-step 100 python benchmarks/finetuning_step.py --size $tuning --rounds $rounds --updates 4
! grep -q "failed" "$OUT/summary.txt"
