#!/usr/bin/env bash
# Under torch.autocast on a CPU, softmax and log_softmax of bfloat16 logits stay in bfloat16; on a GPU, says the documentation
# of torch, autocast lifts both to float32. A distillation loss written for that, KL of log_softmax and softmax over a
# vocabulary, is about twice too large on the CPU, though its own result is float32: kl_div is lifted after the rounding.
#
# Versions: torch 2.13.0, numpy 2.4.6, Python 3.11.
# Behaviour: two distributions over 30,522 words that nearly agree, as late in a distillation: kl_div under autocast is 2.1
# times the value that the very same bfloat16 logits have in float32. cross_entropy is lifted as a whole and is right.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

torch.manual_seed(0)
teacher = torch.randn(64, 30522)
student = (teacher + 0.02 * torch.randn_like(teacher)).bfloat16()
teacher, words = teacher.bfloat16(), torch.randint(30522, (64,))
with torch.autocast("cpu", torch.bfloat16):
    logs, wanted = log_softmax(student, -1), softmax(teacher, -1)
    loss = kl_div(logs, wanted, reduction="batchmean")
    hard = cross_entropy(student, words)
exact = kl_div(log_softmax(student.float(), -1), softmax(teacher.float(), -1), reduction="batchmean")
print("log_softmax", logs.dtype, "softmax", wanted.dtype, "kl_div", loss.dtype)
print("KL is more than half too large:", bool(loss > 1.5 * exact))
print("cross entropy is right:", torch.allclose(hard, cross_entropy(student.float(), words), rtol=1e-4))
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
log_softmax torch.bfloat16 softmax torch.bfloat16 kl_div torch.float32
KL is more than half too large: True
cross entropy is right: True
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
