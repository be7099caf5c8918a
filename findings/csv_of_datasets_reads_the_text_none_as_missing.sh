#!/usr/bin/env bash
# load_dataset("csv") reads the sentences "None", "null", "NA", "n/a" and "nan" of a column of texts as missing, and a class
# that is called "None" or "NA" as no label; the same rows as JSON lines or as a Parquet file are read as they stand. A row
# of a text task with such a one-word text, or a whole class, gets lost on the way.
#
# Versions: datasets 5.2.0, Python 3.11.
# Behaviour: pandas' list of missing values is applied to columns of text. keep_default_na=False keeps the words.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import json
from pathlib import Path

from datasets import load_dataset

rows = [("None", "positive"), ("null", "negative"), ("NA", "None"), ("nan", "NA"), ("nothing", "none")]
Path("rows.csv").write_text("\n".join(["sentence,label", *map(",".join, rows)]) + "\n")
Path("rows.jsonl").write_text("".join(json.dumps(dict(zip(("sentence", "label"), row))) + "\n" for row in rows))
for kind, file, more in (
    ("json", "rows.jsonl", {}),
    ("csv", "rows.csv", {}),
    ("csv", "rows.csv", {"keep_default_na": False}),
):
    data = load_dataset(kind, data_files=file, split="train", cache_dir="cache", **more)
    print(kind, *more, list(zip(data["sentence"], data["label"])))
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
json [('None', 'positive'), ('null', 'negative'), ('NA', 'None'), ('nan', 'NA'), ('nothing', 'none')]
csv [(None, 'positive'), (None, 'negative'), (None, None), (None, None), ('nothing', 'none')]
csv keep_default_na [('None', 'positive'), ('null', 'negative'), ('NA', 'None'), ('nan', 'NA'), ('nothing', 'none')]
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
