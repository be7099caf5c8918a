#!/usr/bin/env bash
# A BERT built from its teacher's configuration with half the layers takes the teacher's weights by
# load_state_dict(strict=False) without a single missing key: the layers are numbered, so it silently gets the first
# ones, whichever were meant.
#
# Versions: torch 2.13.0, transformers 5.23.0, Python 3.11.
# Behaviour: no missing key; layers 0 and 1 of the student are layers 0 and 1 of the teacher. Keys must be renamed from the
# old number to the new one before loading.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import copy
import re

import torch
from transformers import BertConfig, BertModel

torch.manual_seed(0)
shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
teacher = BertModel(BertConfig(num_hidden_layers=4, **shape)).eval()
config = copy.deepcopy(teacher.config)
config.num_hidden_layers = 2
words = torch.randint(0, 50, (1, 6))
for keep in ((0, 1), (1, 3)):
    cut = copy.deepcopy(teacher)
    cut.encoder.layer = torch.nn.ModuleList(cut.encoder.layer[i] for i in keep)
    for way in ("as they are", "renamed"):
        weights = teacher.state_dict()
        if way == "renamed":
            old = {name: re.search(r"layer\.(\d+)\.", name) for name in weights}
            weights = {
                re.sub(r"layer\.\d+\.", f"layer.{keep.index(int(found[1]))}.", name) if found else name: weights[name]
                for name, found in old.items()
                if not found or int(found[1]) in keep
            }
        student = BertModel(config).eval()
        report = student.load_state_dict(weights, strict=False)
        same = torch.equal(student(words).last_hidden_state, cut(words).last_hidden_state)
        print(f"layers {keep}, keys {way}: {len(report.missing_keys)} missing, {'as' if same else 'not as'} meant")
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
layers (0, 1), keys as they are: 0 missing, as meant
layers (0, 1), keys renamed: 0 missing, as meant
layers (1, 3), keys as they are: 0 missing, not as meant
layers (1, 3), keys renamed: 0 missing, as meant
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
