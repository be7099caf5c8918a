#!/usr/bin/env bash
# A tokenizer's call with truncation and padding leaves them switched on in what save_pretrained writes next: tokenizer.json
# then cuts and pads every text in each program that reads it by itself, the tokenizers library or a runtime on a device,
# while AutoTokenizer, which sets both anew at each call, shows nothing of it.
#
# Versions: torch 2.13.0, transformers 5.23.0, tokenizers 0.23.3, Python 3.11.
# Behaviour: 40 words and two special tokens are 42 pieces before the call and 8 after it, one word is 3 and 8.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "wolf", "owl"]
tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
long = "wolf owl " * 20
for when in ("before", "after"):
    tokenizer.save_pretrained("saved")
    alone, auto = Tokenizer.from_file("saved/tokenizer.json"), AutoTokenizer.from_pretrained("saved")
    print(when, "tokenizers", len(alone.encode(long)), len(alone.encode("owl")), end=" ")
    print("transformers", len(auto(long).input_ids), len(auto("owl").input_ids))
    tokenizer(long, truncation=True, max_length=8, padding="max_length")
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
before tokenizers 42 3 transformers 42 3
after tokenizers 8 8 transformers 42 3
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
