#!/usr/bin/env bash
# Teacher, student, undistilled twin and Table 1 of scale small on one GPU in eight minutes, without a network.
#
#   benchmarks/gpu_evidence.sh pack input.tar.xz         here: encoder, text and tasks from the Hub, at most 64 MiB
#   benchmarks/gpu_evidence.sh run input.tar.xz out      there: out/records.tar.gz, whatever the time has allowed
#
# Settings, with their defaults: SECONDS_ALLOWED=470 TEACHER_TOKENS=21000000 TOKENS=20000000 SEEDS=5
# RATES=3e-4,1e-4,3e-5 TASKS="rte mrpc stsb cola wnli sst2" MODELS="teacher student undistilled untrained published
# random" SOURCE=hub JOBS=12 FLAGS="" (for every command, such as --cpu) GLUE_FLAGS="" (for Table 1, such as --train_rows).
# The text is as much as fits into 64 MiB, about 19 M tokens; CHARACTERS sets how much is packed. Each step is a
# command of distilnb that skips what is recorded; a second run with the same `out` goes on. distilnb must be installed
# (pip install -e .), because the commands run inside `out`.
set -euo pipefail
ALLOWED=${SECONDS_ALLOWED:-470} SEEDS=${SEEDS:-5} RATES=${RATES:-3e-4,1e-4,3e-5} SOURCE=${SOURCE:-hub} JOBS=${JOBS:-12}
TASKS=${TASKS:-rte mrpc stsb cola wnli sst2} MODELS=${MODELS:-teacher student undistilled untrained published random}
FLAGS=${FLAGS:-} GLUE_FLAGS=${GLUE_FLAGS:-} TOKENS=${TOKENS:-20000000}
TEACHER_TOKENS=${TEACHER_TOKENS:-21000000} BEGAN=$(date +%s)
export TOKENIZERS_PARALLELISM=false

pack() {
    local work; work=$(mktemp -d)
    trap 'rm -rf "$work"' RETURN
    HF_DATASETS_CACHE=$work/hf/datasets python - "$work" <<'PYTHON'
import os
import sys
from itertools import chain, zip_longest
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertModel

from distilnb import scales
from distilnb.tasks import glue
from distilnb.tasks.scored import scored_texts
from distilnb.text import sources

work, small = Path(sys.argv[1]), scales.get("small")
for kind, more in ((BertModel, {"dtype": torch.float16, "use_safetensors": True}), (AutoTokenizer, {})):
    kind.from_pretrained(small.teacher, revision=small.revision, **more).save_pretrained(work / "encoder")
scored = scored_texts(small.leave_out)
streams = [sources.documents(source) for source in sources.parse_sources(small.text)]
characters = int(os.environ.get("CHARACTERS", 75_000_000))
texts, length = [], 0
for text in filter(None, chain.from_iterable(zip_longest(*streams))):
    if not scored.within(text):
        texts.append(text)
        length += len(text)
    if length > characters:
        break
Path(work, "text.txt").write_text("\n\n".join(" ".join(text.split()) for text in texts))
print(f"{len(texts):,} documents, {length:,} characters")
for name in ("cola", "sst2", "mrpc", "stsb", "rte", "wnli"):
    glue.load_split(name, "train", "hub")
PYTHON
    find "$work/hf" -path '*imdb*' -o -path '*squad*' -o -path '*mnli*' -o -path '*qqp*' -o -path '*qnli*' -o \
        -name downloads -o -name '*.lock' | xargs rm -rf  # what was only checked against
    tar -C "$work" -cJf "$1" .
    local size; size=$(stat -c %s "$1")
    echo "$1: $((size / 1024 / 1024)) MiB"
    if ((size > 64 * 1024 * 1024)); then echo "more than 64 MiB: set CHARACTERS lower" >&2; exit 1; fi
}

# what is left of the time, for `timeout`; nothing is begun in the last ten seconds
within() {
    local left=$((ALLOWED - $(date +%s) + BEGAN))
    if ((left < 10)); then echo "no time left for: ${*: -1}" >&2; return 1; fi
    timeout --signal=TERM "$left" "$@"
}

command_of() { within python -m distilnb "$1" --scale small $FLAGS "${@:2}" >"$LOGS/$NAME.log" 2>&1 || echo "$NAME: not finished"; }

run() {
    local input=$1 out=$2
    mkdir -p "$out/work" && tar -C "$out/work" -xJf "$input"
    cd "$out/work"
    export HF_HUB_OFFLINE=1 HF_HOME=$PWD/hf DISTILNB_HOME=$PWD DISTILNB_CACHE=$PWD/cache LOGS=$PWD/logs
    mkdir -p "$LOGS" runs
    trap 'tar -czf ../records.tar.gz runs/*.json runs/selection logs 2>/dev/null || true' EXIT
    local text="--text text.txt --leave_out" like="--teacher runs/teacher-small/model"
    NAME=teacher command_of teacher --start encoder $text "" --tokens "$TEACHER_TOKENS"
    NAME=student command_of distil $like --name distil-small $text "" --tokens "$TOKENS" &
    NAME=undistilled command_of distil $like --name undistilled-small --ce 0 --cos 0 $text "" --tokens "$TOKENS" &
    wait
    declare -A source=([teacher]=runs/teacher-small/model [student]=runs/distil-small/model [published]=encoder
        [undistilled]=runs/undistilled-small/model [untrained]=untrained:runs/teacher-small/model
        [random]=random:runs/distil-small/model)
    for task in $TASKS; do
        for model in $MODELS; do
            while (($(jobs -rp | wc -l) >= JOBS)); do wait -n || true; done
            NAME=$task-$model command_of glue --task "$task" --source "$SOURCE" --model "$model=${source[$model]}" \
                --seeds "$SEEDS" --learning_rates "$RATES" --trial_rows 10000 $GLUE_FLAGS &
        done
    done
    wait
    echo "$(ls runs/*.json 2>/dev/null | wc -l) records in $(($(date +%s) - BEGAN)) s"
}

case ${1:-} in
    pack) pack "$(realpath -m "${2:?the file to write}")" ;;
    run) run "$(realpath "${2:?the packed input}")" "$(realpath -m "${3:?a folder for the records}")" ;;
    *) sed -n '2,13p' "$0"; exit 2 ;;
esac
