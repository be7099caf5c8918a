#!/usr/bin/env bash
# The test suite: unit tests, then every notebook through nbval, with the coverage of each and of both.
# Your own runs/ and figures/ stay untouched: everything is written to a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export DISTILNB_HOME="$scratch/home" DISTILNB_CACHE="$scratch/cache" DISTILNB_SCALE=toy
export OMP_WAIT_POLICY=passive  # spinning threads bring shared cores to a standstill
export COVERAGE_RCFILE="$PWD/pyproject.toml" TOKENIZERS_PARALLELISM=false
mkdir -p "$DISTILNB_HOME"

echo "== notebooks, through nbval"
COVERAGE_FILE="$scratch/notebooks" python -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
  --cov=distilnb --cov-report= -p no:cacheprovider notebooks "$@"
echo "== lines of the package that the notebooks alone run"
coverage report --data-file="$scratch/notebooks" --fail-under=80

echo "== unit tests"
COVERAGE_FILE="$scratch/unit" python -m pytest -q -p no:nbval --cov=distilnb --cov-report= tests "$@"
echo "== lines that notebooks and unit tests run together"
coverage combine --quiet --keep --data-file="$scratch/both" "$scratch/notebooks" "$scratch/unit"
coverage report --data-file="$scratch/both" --show-missing --fail-under=95
