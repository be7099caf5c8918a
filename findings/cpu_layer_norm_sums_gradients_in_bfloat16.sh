#!/usr/bin/env bash
# When an encoder is trained in bfloat16 on a CPU, the gradients of LayerNorm's gain and bias are added up over all tokens
# in bfloat16, whose sums stop growing after some hundred terms, even where both parameters are float32, as under
# autocast. They come out too small, the more so the more tokens a pass has; linear layers sum in float32 and are right.
#
# Versions: torch 2.13.0, numpy 2.4.6, Python 3.11; one thread (each thread sums its own tokens).
# Behaviour: a linear layer and a LayerNorm of width 384 on 16,384 tokens, plain and under autocast: the bias of the
# LayerNorm gets a good quarter of its gradient, the linear layer all of it. With 256 tokens both are right.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import torch

torch.set_num_threads(1)
for tokens in (256, 16_384):
    torch.manual_seed(0)
    linear, norm = torch.nn.Linear(384, 384), torch.nn.LayerNorm(384)
    x, wanted = torch.randn(tokens, 384), 0.01 * torch.randn(tokens, 384) + 0.002
    found = {}
    for bf16 in (False, True):
        linear.zero_grad(), norm.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = norm(linear(x))
        (out.float() * wanted).sum().backward()
        found[bf16] = norm.bias.grad.clone(), linear.weight.grad.clone()
    kept, linears = (float((b * a).sum() / a.square().sum()) for a, b in zip(found[False], found[True]))
    print(tokens, norm.bias.dtype, "norm keeps half:", kept > 0.5, "| all:", kept > 0.97, "| linear keeps all:", linears > 0.97)
PROGRAM
seen=$(cd "$folder" && "$folder/venv/bin/python" seen.py 2>/dev/null)
expected=$(cat <<'EXPECTED'
256 torch.float32 norm keeps half: True | all: True | linear keeps all: True
16384 torch.float32 norm keeps half: False | all: False | linear keeps all: True
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
