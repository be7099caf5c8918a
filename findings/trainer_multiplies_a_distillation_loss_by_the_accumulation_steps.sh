#!/usr/bin/env bash
# Trainer with a compute_loss of one's own, such as a mean KL divergence to a teacher, takes a gradient that is as many
# times too large as there are accumulation steps: BertForMaskedLM's forward accepts keyword arguments, from which Trainer
# concludes that the loss is a sum already divided by the number of tokens of the whole update, and it does not divide it.
#
# Versions: torch 2.13.0, transformers 5.23.0, accelerate 1.15.0, Python 3.11.
# Behaviour: the same four rows in one update of plain SGD, in one, two and four parts: the weights move once, twice and four
# times as far, and the reported loss grows alike. Clipping and Adam hide it from most runs, a learning rate does not.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import copy
import tempfile

import torch
from torch.nn.functional import kl_div
from transformers import BertConfig, BertForMaskedLM, PrinterCallback, Trainer, TrainingArguments

torch.manual_seed(0)
shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
config = BertConfig(hidden_dropout_prob=0, attention_probs_dropout_prob=0, **shape)
student, teacher = BertForMaskedLM(config), BertForMaskedLM(config).eval()
rows = [{"input_ids": torch.randint(5, 50, (8,))} for _ in range(4)]
for row in rows:
    row["labels"] = row["input_ids"].clone()


class Distillation(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        with torch.no_grad():
            wanted = teacher(**inputs).logits.softmax(-1).flatten(0, 1)
        return kl_div(model(**inputs).logits.log_softmax(-1).flatten(0, 1), wanted, reduction="batchmean")


def moved(rows_at_once, parts):
    model = copy.deepcopy(student)
    settings = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=rows_at_once, gradient_accumulation_steps=parts, max_steps=1,
        learning_rate=0.1, optim="sgd", max_grad_norm=0, lr_scheduler_type="constant", use_cpu=True, report_to=[],
        disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )
    trainer = Distillation(model=model, args=settings, train_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    result = trainer.train()
    pairs = zip(model.parameters(), student.parameters())
    return float(sum(((new - old) ** 2).sum() for new, old in pairs)) ** 0.5, result.training_loss


whole = moved(4, 1)
for parts in (2, 4):
    distance, loss = (now / once for now, once in zip(moved(4 // parts, parts), whole))
    print(f"in {parts} parts: the weights move {distance:.2f} times as far, the reported loss is {loss:.2f} times")
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
in 2 parts: the weights move 2.00 times as far, the reported loss is 2.00 times
in 4 parts: the weights move 4.00 times as far, the reported loss is 4.00 times
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
