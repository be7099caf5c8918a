#!/usr/bin/env bash
# torchmetrics' SQuAD metric takes rows in SQuAD's own format, and stops at a question that has no answer, which SQuAD 2.0
# marks by empty lists: it takes the maximum over no gold answers. The official evaluation of SQuAD 2.0 scores such a row
# 1 for an empty prediction and 0 for any other.
#
# Versions: torch 2.13.0, torchmetrics 1.9.0, Python 3.11.
# Behaviour: a row with an answer is scored; a row without one raises ValueError.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
from torchmetrics.functional.text import squad

for golds in (["in Bern"], []):
    answers = {"answer_start": [0] * len(golds), "text": golds}
    try:
        scores = squad([{"prediction_text": "Bern", "id": "q"}], [{"answers": answers, "id": "q"}])
        print(golds, {name: round(float(score), 1) for name, score in scores.items()})
    except ValueError as error:
        print(golds, type(error).__name__)
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
['in Bern'] {'exact_match': 0.0, 'f1': 66.7}
[] ValueError
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
