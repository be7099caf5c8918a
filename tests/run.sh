#!/usr/bin/env bash
# The test suite: unit tests, then every notebook through nbval. COVERAGE=notebooks tells the lines of the package that
# notebooks run, a quarter slower; COVERAGE=all those of the unit tests too.
# Your own runs/ and figures/ stay untouched: everything is written to a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export DISTILNB_HOME="$scratch/home" DISTILNB_CACHE="$scratch/cache" DISTILNB_SCALE=toy
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive  # side by side, a thread each; spinning ones would block the other
export COVERAGE_RCFILE="$PWD/pyproject.toml" TOKENIZERS_PARALLELISM=false
mkdir -p "$DISTILNB_HOME"

cores=$(python -c "import os; print(os.cpu_count() or 1)")
workers=$((cores < 4 ? cores + 1 : 4))  # one more than cores: some wait for a browser, a process or a clock

# one notebook, in its own home and coverage file; what it says is shown when it has ended
notebook() {
  local name=${1#notebooks/} status=0
  name=${name//\//-}
  DISTILNB_HOME="$scratch/home-$name" COVERAGE_FILE="$scratch/notebook-$name" python -m pytest -q --nbval-lax \
    --nbval-current-env --nbval-cell-timeout=600 ${COVERAGE:+--cov=distilnb --cov-report=} -p no:cacheprovider \
    -p no:xdist "$@" > "$scratch/$name.log" 2>&1 || status=$?
  cat "$scratch/$name.log"
  return "$status"
}
export -f notebook
export scratch

echo "== unit tests, in $workers processes"
units=(python -m pytest -q -p no:nbval -n "$workers" --dist loadfile --no-loadscope-reorder)  # the longest files first
[[ "${COVERAGE:-}" == all ]] && units+=(--cov=distilnb --cov-report=)
COVERAGE_FILE="$scratch/unit" "${units[@]}" tests "$@"

echo "== notebooks and solutions, through nbval, two at a time"
printf '%s\n' notebooks/*.ipynb notebooks/solutions/*.ipynb | xargs -P 2 -I{} bash -c 'notebook "$@"' run {} "$@"
[[ -n "${COVERAGE:-}" ]] || exit 0
echo "== lines of the package that the notebooks alone run (but for what no lesson is about)"
coverage combine --quiet --keep --data-file="$scratch/notebooks" "$scratch"/notebook-*
no_lesson="*/cli/*,*/__main__.py,*/lessons/generated.py,*/lessons/notebooks.py,*/lessons/quiz.py,*/lessons/runtime.py"
no_lesson+=",*/lessons/slides.py,*/machine/hosts.py,*/machine/hub.py,*/report/answer.py,*/report/findings.py"
no_lesson+=",*/report/model_card.py,*/tasks/ceilings.py,*/tasks/own.py,*/tasks/scored.py,*/tasks/submission.py"
no_lesson+=",*/text/contamination.py,*/text/reading.py,*/text/portions.py,*/text/preparing.py,*/text/forecast.py"
no_lesson+=",*/studies/demo.py,*/studies/runtimes.py,*/studies/rounding.py,*/evidence/devices.py"
coverage report --data-file="$scratch/notebooks" --omit="$no_lesson" --fail-under=80

[[ "$COVERAGE" == all ]] || exit 0
echo "== lines that notebooks and unit tests run together"
coverage combine --quiet --keep --data-file="$scratch/both" "$scratch/notebooks" "$scratch/unit"
coverage report --data-file="$scratch/both" --show-missing --fail-under=95
