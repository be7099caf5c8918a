"""The paper's phone study as a page: teacher, student and twin in the reader's own browser (section 4.1).

`build` writes a static folder. Its models are ONNX graphs whose weights lie in one file beside them, so that a model
with its head and its encoder alone, which is what is timed, share what is sent. All large files are gzip on disk and
are unpacked by the page, because the simplest server packs nothing; the page checks each against its hash here.
"""

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .. import paths
from ..models import families
from ..models.arithmetic import parameter_groups
from ..models.teacher import check_vocabulary
from .formats import relative_error, sample
from .graphs import HIDDEN, Batch, open_onnx, quantize_onnx, require_onnx, to_onnx
from .rounding import ERROR, in_blocks

ORT, TOKENIZERS = "onnxruntime-web@1.30.0", "@huggingface/tokenizers@0.2.0"
CDN = "https://cdn.jsdelivr.net/npm"
PINNED = {  # what the page runs on: files of the packages' folder `dist`, each with its hash
    "ort.wasm.min.mjs": "SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ",
    "ort-wasm-simd-threaded.mjs": "XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    "ort.webgpu.min.mjs": "FPQBMbud8ICuP0Ii+Gr95KWEX9pKHtUC3lacIp0aPI8WYluKvTsEGQ3AE2Ze3QlL",
    "ort-wasm-simd-threaded.asyncify.mjs": "qViEcCGzsR/m8nlQwIsbYh7afN4thuraqFYDQY6huvmoLVoZq/eYawQ1wrv8nnhA",
    "ort-wasm-simd-threaded.asyncify.wasm": "EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
    "tokenizers.min.mjs": "Tl2lMbeE3RCGFLOUGQ7LhvaagysxiOw/9dulz2sD6jxNa1MckRJQBbYdVHhOoqEs",
}
VENDOR = {  # these files by what the page calls them; WebGPU's are fetched when asked for
    "wasm": (
        ORT,
        {"ort": "ort.wasm.min.mjs", "glue": "ort-wasm-simd-threaded.mjs", "wasm": "ort-wasm-simd-threaded.wasm"},
    ),
    "webgpu": (
        ORT,
        {
            "ort": "ort.webgpu.min.mjs",
            "glue": "ort-wasm-simd-threaded.asyncify.mjs",
            "wasm": "ort-wasm-simd-threaded.asyncify.wasm",
        },
    ),
    "tokenizers": (TOKENIZERS, {"code": "tokenizers.min.mjs"}),
}
PAGE = ("index.html", "demo.css", "demo.js", "worker.js", "stopwatch.js", "sw.js")
SENTENCES = (
    "He opened the ___ and went out.",
    "She was born in ___ and died in 1952.",
    "This is the ___ film I have ever seen.",
    "The king and the ___ ruled the land.",
    "The owl is a kind of ___.",
    "The ___ is a kind of bird.",
    "The girl saw a dog and a ___.",
)
FULL = {
    "teacher": (BertModel, BertConfig(), {"add_pooling_layer": False}),
    "student": (DistilBertModel, DistilBertConfig(), {}),
}
SMALL = 1024  # bytes of a tensor that stays in the graph


def build(
    models: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    *,
    scale: str,
    full: bool = False,
    npm: bool = True,
) -> dict[str, Any]:
    """Write the page with these masked language models ("teacher", "student", perhaps "undistilled") to `out`; its
    manifest, which is demo.json.

    `full` adds the encoders of BERT-base and DistilBERT, whose weights the page makes at random; without `npm` the
    runtime comes from a CDN, held to the same hashes. Raises ValueError for a missing package, for models of other
    families or vocabularies, and when npm answers with other files than the pinned ones.
    """
    require_onnx()
    _check(models, tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {"scale": scale, "vendor": {}, "models": {}, "runtime": ORT}
    manifest["vendor"] = (vendor(out) if npm else None) or at_cdn()
    manifest["tokenizer"] = [_packed(out, f"tokenizer{n}.json", text) for n, text in enumerate(_spelling(tokenizer))]
    manifest["sentences"] = [text for text in SENTENCES if _knows(tokenizer, text)][:4] or [SENTENCES[0]]
    manifest["longest"] = min(families.longest(model.config) for model in models.values())
    for name, model in models.items():
        manifest["models"][name] = _facts(model, len(tokenizer)) | graphs(model, name, out)
    if full:
        manifest["full"] = {}
        for name, (kind, config, more) in FULL.items():
            model = kind(config, **more)
            manifest["full"][name] = _facts(model, config.vocab_size) | graphs(model, f"full-{name}", out, random=True)
    texts = {name: resources(__package__).joinpath("page", name).read_text() for name in PAGE}
    told = json.dumps([manifest, texts], sort_keys=True).encode()
    manifest["build"] = hashlib.sha256(told).hexdigest()[:12]
    for name, text in texts.items():
        (out / name).write_text(text.replace("BUILD", manifest["build"]) if name == "sw.js" else text)
    (out / "demo.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _check(models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> None:
    for name, model in models.items():
        if families.of(model.config).objective != "masked" or not isinstance(model, families.of(model).model):
            raise ValueError(f"the {name} is a {type(model).__name__}; the page needs masked language models")
        check_vocabulary(model.config, tokenizer)


def _facts(model: PreTrainedModel, words: int) -> dict[str, Any]:
    """What the page says of a model: layers, width, parameters of the encoder, and `words`, without spare rows."""
    config = model.config
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "words": words,
        "parameters": sum(parameter_groups(config, head=False).values()),
        "inputs": ["input_ids", "attention_mask", *["token_type_ids"] * families.reads_token_types(config)],
    }


def _spelling(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """A tokenizer's two files, which cut and pad nothing."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return [Path(folder, name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")]


def _knows(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether every word of a sentence is a piece of its own."""
    pieces = tokenizer.tokenize(text.replace("___", tokenizer.mask_token))
    return tokenizer.unk_token not in pieces and not any(piece.startswith("##") for piece in pieces)


# the models


def graphs(model: PreTrainedModel, name: str, out: Path, random: bool = False) -> dict[str, Any]:
    """Write a model's graphs and weights for each precision; {precision: {part: file}} as the manifest has it.

    Parts are `whole` (logits and hidden states), `encoder` (hidden states alone) and `weights`, which both read; of
    `random` weights only the encoder is written, and the number of bytes stands in place of a file.
    """
    import onnx

    written: dict[str, Any] = {}
    outputs = {"encoder": [HIDDEN]} if random else {"whole": ["logits", HIDDEN], "encoder": [HIDDEN]}
    with TemporaryDirectory() as folder:
        plain = to_onnx(model, Path(folder, "model.onnx"), next(iter(outputs.values())))
        rounded, told = Path(folder, "int8.onnx"), {}
        if random:
            quantize_onnx(plain, rounded)
        else:
            texts = [{key: rows[:1] for key, rows in batch.items()} for batch in sample(model)]
            told = round_as_needed(plain, rounded, texts)
        for precision, path in (("int8", rounded), ("float32", plain)):
            if random and precision == "float32":
                continue
            graph = onnx.load(path)
            if precision == "float32":
                halve(graph)
            weights = put_aside(graph, integers=random)
            files = {
                part: _packed(out, f"{name}-{precision}-{part}.onnx", only(graph, names).SerializeToString())
                for part, names in outputs.items()
            }
            kept = {"bytes": 0, "random": len(weights)} if random else _packed(out, f"{name}-{precision}.bin", weights)
            written[precision] = {**files, "weights": kept} | (told if precision == "int8" else {})
    return written


def round_as_needed(source: Path, target: Path, texts: Sequence[Batch]) -> dict[str, Any]:
    """Write the graph `source` in int8, in the usual way where that holds for `texts`, one at a time, else in blocks;
    the way, and by what share of their norm the logits differ from float32's.

    The usual way is the faster one in a browser, where products in blocks are computed in float32.
    """
    quantize_onnx(source, target)
    way, whole = "dynamic", _answers(source, texts)
    error = relative_error(_answers(target, texts), whole)
    if error > ERROR:
        in_blocks(source, target)
        way, error = "blocks", relative_error(_answers(target, texts), whole)
    return {"rounding": way, "error": float(f"{error:.2g}")}


def _answers(path: Path, texts: Sequence[Batch]) -> np.ndarray:
    run = open_onnx(path, only="logits")
    return np.concatenate([run(batch).ravel() for batch in texts])


def halve(model: Any) -> None:
    """Keep an ONNX model's large tensors in half precision, where that loses nothing, and widen them as it is loaded.

    Weights that were trained in bfloat16 or shipped in float16 are sent in half the bytes; the answers stay the same.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16) if values.dtype == np.float32 and values.nbytes >= SMALL else None
        if half is not None and np.array_equal(half.astype(np.float32), values):
            casts.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}_half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def put_aside(model: Any, integers: bool = False) -> bytes:
    """Move an ONNX model's large tensors (or its whole numbers alone) into one block, which is returned.

    The graph names it "weights"; each tensor begins at a multiple of 64 bytes.
    """
    from onnx import TensorProto
    from onnx.external_data_helper import set_external_data

    block = bytearray()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < SMALL or (integers and tensor.data_type not in (TensorProto.INT8, TensorProto.UINT8)):
            continue
        block += bytes(-len(block) % 64)
        data = tensor.raw_data
        set_external_data(tensor, "weights", offset=len(block), length=len(data))
        tensor.ClearField("raw_data")
        block += data
    return bytes(block)


def only(model: Any, names: Sequence[str]) -> Any:
    """A copy of an ONNX model with these outputs, and nothing that they do not need."""
    from onnx.utils import Extractor

    return Extractor(model).extract_model([entry.name for entry in model.graph.input], list(names))


# files


def _packed(out: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write a file as gzip; how the manifest names it."""
    packed = gzip.compress(data, 9, mtime=0)
    (out / f"{name}.gz").write_bytes(packed)
    return {"url": f"{name}.gz", "bytes": len(packed), "gzip": True, "integrity": f"sha384-{_hash(packed)}"}


def _hash(data: bytes) -> str:
    return base64.b64encode(hashlib.sha384(data).digest()).decode()


Vendored = dict[str, dict[str, dict[str, Any]]]  # as VENDOR, with the manifest's entry for each file


def vendor(out: Path) -> Vendored | None:
    """Put the runtime's files from npm beside the page; None where npm cannot be had.

    Raises ValueError when what npm brings is not what was pinned.
    """
    archives = {package: npm_archive(package) for package in (ORT, TOKENIZERS)}
    if not all(archives.values()):
        return None
    parts: Vendored = {}
    for part, (package, files) in VENDOR.items():
        parts[part] = {}
        for name, file in files.items():
            with tarfile.open(archives[package]) as tar:
                data = tar.extractfile(f"package/dist/{file}").read()
            if _hash(data) != PINNED[file]:
                raise ValueError(
                    f"dist/{file} of {package} is not the pinned file: delete {archives[package]} and try again"
                )
            parts[part][name] = _packed(out, file, data)
    return parts


def at_cdn() -> Vendored:
    """The runtime's files at a CDN, held to the same hashes."""
    parts: Vendored = {}
    for part, (package, files) in VENDOR.items():
        address, unpacked = f"{CDN}/{package}/dist", {"bytes": 0, "gzip": False}
        parts[part] = {
            name: {"url": f"{address}/{file}", **unpacked, "integrity": f"sha384-{PINNED[file]}"}
            for name, file in files.items()
        }
    return parts


def npm_archive(package: str) -> Path | None:
    """The archive of a pinned package, fetched once by npm, which runs no script of it; None without npm or network."""
    folder = paths.cache("npm")
    archive = folder / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
    if archive.is_file():
        return archive
    if shutil.which("npm") is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["npm", "pack", package, "--silent"], cwd=folder, capture_output=True, text=True)
    return archive if done.returncode == 0 and archive.is_file() else None
