#!/usr/bin/env bash
# A ModernBERT whose copied configuration gets fewer num_hidden_layers builds and trains, and only save_pretrained
# notices that layer_types still names a kind for each of the old layers: after the training, not before.
#
# Versions: torch 2.13.0, transformers 5.23.0, Python 3.11.
# Behaviour: forward and backward pass work; save_pretrained raises StrictDataclassClassValidationError. Setting
# layer_types to the kinds of the layers that are kept avoids it.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import copy
import tempfile

import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM

torch.manual_seed(0)
special = {"pad_token_id": 0, "cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
whole = ModernBertConfig(num_hidden_layers=6, **shape, **special)
half = copy.deepcopy(whole)
half.num_hidden_layers = 3
words = torch.randint(3, 50, (2, 8))
for kinds in (None, [whole.layer_types[i] for i in (0, 2, 4)]):
    if kinds:
        half.layer_types = kinds
    model = ModernBertForMaskedLM(half)
    model(input_ids=words, labels=words).loss.backward()
    print("trained", "with layer_types of its own" if kinds else "with those of six layers", end=": ")
    try:
        model.save_pretrained(tempfile.mkdtemp())
        print("saved")
    except Exception as error:
        print(type(error).__name__)
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
trained with those of six layers: StrictDataclassClassValidationError
trained with layer_types of its own: saved
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
