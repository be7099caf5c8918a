#!/usr/bin/env bash
# BertTokenizer(vocab_file="vocab.txt"), the way to load a 2018-style vocabulary for years, gives a tokenizer of five
# special tokens in transformers 5: the file is left unread, nothing is said, and every word becomes [UNK].
#
# Versions: torch 2.13.0, transformers 5.23.0, Python 3.11.
# Behaviour: vocab_file= is swallowed; vocab= takes a dictionary, and a folder with vocab.txt loads by from_pretrained.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
from pathlib import Path

from transformers import BertTokenizer

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
Path("bert").mkdir()
Path("bert/vocab.txt").write_text("\n".join(words))
for name, tokenizer in (
    ("vocab_file=", BertTokenizer(vocab_file="bert/vocab.txt")),
    ("vocab=", BertTokenizer(vocab={word: i for i, word in enumerate(words)})),
    ("from_pretrained", BertTokenizer.from_pretrained("bert")),
):
    print(name, len(tokenizer), tokenizer.tokenize("hello world"))
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
vocab_file= 5 ['[UNK]', '[UNK]']
vocab= 7 ['hello', 'world']
from_pretrained 7 ['hello', 'world']
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
