#!/usr/bin/env bash
# A process that torchrun starts again (--max-restarts) sees in its store what processes of earlier starts left there,
# their addresses among it: the agents keep one store for all starts. gloo and NCCL then may ask for a process that died,
# are refused, start again, and so on until no restart is left, more so the more apart the processes come up.
#
# Versions: torch 2.13.0, Python 3.11.
# Behaviour: with --rdzv-backend c10d (and --standalone), TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each start a store of its
# own; with the static rendezvous, torchrun's default on one host and accelerate's on several, it changes nothing.
# Output: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 2>/dev/null
cat > "$folder/seen.py" <<'PROGRAM'
import os
import signal
import time
from datetime import timedelta

from torch.distributed import rendezvous

start = os.environ["TORCHELASTIC_RESTART_COUNT"]
store, rank, _ = next(rendezvous("env://", timeout=timedelta(seconds=60)))
if start == "0":
    if rank == 0:
        store.set("address", "of process 0, start 0")
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
if rank == 1:
    print("start 1 sees an address", store.get("address").decode() if store.check(["address"]) else "of nobody")
    store.set("seen", "")
store.get("seen")
time.sleep(1)
PROGRAM
run() {
  local title=$1 apart=$2
  shift 2
  echo "$title: $(cd "$folder" && TORCH_DISABLE_SHARE_RDZV_TCP_STORE=$apart OMP_NUM_THREADS=1 \
    venv/bin/torchrun "$@" --nproc-per-node 2 --max-restarts 1 seen.py 2>/dev/null)"
}
seen=$(run "c10d" 0 --standalone && run "c10d, a store for each start" 1 --standalone && run "static" 1 --master-port 29533)
expected=$(cat <<'EXPECTED'
c10d: start 1 sees an address of process 0, start 0
c10d, a store for each start: start 1 sees an address of nobody
static: start 1 sees an address of process 0, start 0
EXPECTED
)
echo "$seen"
if [[ "$seen" != "$expected" ]]; then
  echo "this is not what was seen before:" && echo "$expected" && exit 1
fi
