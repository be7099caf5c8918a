#!/usr/bin/env bash
# DistilBERT's configuration takes layer_norm_eps without a word, saves it and reads it back, and its layers compute with
# 1e-12 all the same. A student made from a BERT whose epsilon is another, as many BERTs after the first have, computes
# something else than the teacher's layers from the same weights.
#
# Versions: torch 2.13.0, transformers 5.23.0, Python 3.11.
# Behaviour: with 1e-3 in both configurations BERT's LayerNorms have it and DistilBERT's have 1e-12.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
from torch.nn import LayerNorm
from transformers import AutoConfig, BertConfig, BertModel, DistilBertConfig, DistilBertModel

teacher = BertModel(BertConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_attention_heads=2,
                               num_hidden_layers=2, layer_norm_eps=1e-3))
student = DistilBertModel(DistilBertConfig(vocab_size=50, dim=32, hidden_dim=64, n_heads=2, n_layers=1,
                                           layer_norm_eps=1e-3))
student.config.save_pretrained("student")
print("configuration read back:", AutoConfig.from_pretrained("student").layer_norm_eps)
for name, model in (("BERT", teacher), ("DistilBERT", student)):
    print(name, sorted({layer.eps for layer in model.modules() if isinstance(layer, LayerNorm)}))
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
configuration read back: 0.001
BERT [0.001]
DistilBERT [1e-12]
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
