#!/usr/bin/env bash
# An encoder saved in float16 loads in float16, because from_pretrained of transformers 5 takes the data type of the
# file, and the first step of torch's AdamW on a processor then writes NaN into the embedding of every word that the
# batch did not hold: its eps of 1e-8 is 0 in float16, so a weight without a gradient moves by 0/0. The loss of that
# step is a number. dtype=torch.float32 at loading, or fused=True, leaves all weights numbers.
#
# Versions: torch 2.13.0, transformers 5.23.0, Python 3.11.
# Behaviour: 90 of 100 words were not in the batch; 90 rows are NaN after one step, none with float32 or fused=True.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import torch
from transformers import AutoModelForSequenceClassification, DistilBertConfig

torch.manual_seed(0)
config = DistilBertConfig(vocab_size=100, dim=32, hidden_dim=64, n_layers=2, n_heads=2)
AutoModelForSequenceClassification.from_config(config).half().save_pretrained("student")
words, labels = torch.arange(5, 15).view(2, 5), torch.tensor([0, 1])
for loading, training in (({}, {}), ({"dtype": torch.float32}, {}), ({}, {"fused": True})):
    model = AutoModelForSequenceClassification.from_pretrained("student", **loading)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **training)
    loss = model(input_ids=words, labels=labels).loss
    loss.backward()
    optimizer.step()
    nan = model.get_input_embeddings().weight.isnan().any(dim=1)
    print(loading, training, model.dtype, "loss is a number:", loss.isfinite().item(), "words with NaN:", nan.sum().item())
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
{} {} torch.float16 loss is a number: True words with NaN: 90
{'dtype': torch.float32} {} torch.float32 loss is a number: True words with NaN: 0
{} {'fused': True} torch.float16 loss is a number: True words with NaN: 0
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
