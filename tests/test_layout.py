"""Texts of a task in the layout of each family: what its tokenizer writes; GPT-2 has an end of text before each."""

import json

import pytest
import transformers
from accelerate import Accelerator
from conftest import ANIMALS, LETTERS, NAMES, OTHER, PLACES, SPECIAL, VERBS, byte_level, make_tokenizer
from datasets import Dataset
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase, RobertaConfig
from transformers import RobertaForMaskedLM as Roberta

from distilnb.tasks import finetuning, glue, heads, squad
from distilnb.tasks.finetuning import FinetuningConfig
from distilnb.tasks.glue import TaskData
from distilnb.tasks.layout import framed, layout_of
from distilnb.tasks.squad import SQUAD

WORDS = dict.fromkeys((*NAMES, *ANIMALS, *PLACES, *VERBS, *OTHER))
QUESTION, CONTEXT, ANSWER = "who sees it", "anna feeds the cat and the old dog sees it again", "the old dog"


def sentence_piece(kind: str, first: str) -> PreTrainedTokenizerBase:
    """A tokenizer whose pieces begin with the space before their word."""
    pieces = [*((name, 0.0) for name in first.split()), *((f"▁{word}", -5.0) for word in WORDS)]
    return getattr(transformers, kind)(vocab=pieces + [(letter, -10.0) for letter in ("▁", *LETTERS)])


def word_piece(kind: str, *first: str) -> PreTrainedTokenizerBase:
    """A tokenizer of whole words, after these special pieces."""
    return getattr(transformers, kind)(vocab={piece: i for i, piece in enumerate((*first, *WORDS))})


TOKENIZERS = {
    "bert": make_tokenizer,
    "distilbert": lambda: word_piece("DistilBertTokenizer", *SPECIAL),
    "electra": lambda: word_piece("ElectraTokenizer", *SPECIAL),
    "mpnet": lambda: word_piece("MPNetTokenizer", "<s>", "<pad>", "</s>", "[UNK]", "<mask>"),
    "roberta": lambda: byte_level("RobertaTokenizer"),
    "xlm-roberta": lambda: sentence_piece("XLMRobertaTokenizer", "<s> <pad> </s> <unk>"),
    "camembert": lambda: sentence_piece("CamembertTokenizer", "<s> <pad> </s> <unk>"),
    "deberta-v2": lambda: sentence_piece("DebertaV2Tokenizer", "[PAD] [CLS] [SEP] [UNK]"),
    "gpt2": lambda: byte_level("GPT2Tokenizer"),
}
BETWEEN = {"mpnet": "</s> </s>", "roberta": "</s> </s>", "xlm-roberta": "</s> </s>", "camembert": "</s> </s>"}


@pytest.fixture(params=TOKENIZERS)
def family(request) -> tuple[str, PreTrainedTokenizerBase]:
    """The name of a family and a small tokenizer of it; ModernBERT's is laid out as BERT's."""
    return request.param, TOKENIZERS[request.param]()


def rows() -> Dataset:
    """A question, its context and where the answer stands."""
    gold = {"text": [ANSWER], "answer_start": [CONTEXT.index(ANSWER)]}
    return Dataset.from_dict({"id": ["0"], "question": [QUESTION], "context": [CONTEXT], "answers": [gold]})


def test_a_pair_is_laid_out_as_its_family_does(family):
    kind, tokenizer = family
    opening, between, closing = (tokenizer.convert_ids_to_tokens(part) for part in layout_of(tokenizer))
    if kind == "gpt2":
        assert (opening, between, closing) == (["<|endoftext|>"], ["<|endoftext|>"], [])
    else:
        assert opening == [tokenizer.cls_token] and closing == [tokenizer.sep_token]
        assert between == BETWEEN.get(kind, "[SEP]").split()


def test_windows_are_what_the_tokenizer_makes_of_the_pair(family):
    _, tokenizer = family
    (window,) = squad.features(rows(), tokenizer, 64)
    assert window["input_ids"].tolist() == framed(tokenizer)(QUESTION, CONTEXT)["input_ids"]
    offsets, (first, last) = window["offsets"].reshape(-1, 2), window["labels"]
    assert CONTEXT[offsets[first][0] : offsets[last][1]] == ANSWER
    inside = [CONTEXT[start:end] for start, end in offsets if start >= 0]
    assert inside and not any(piece.startswith(" ") for piece in inside)


def test_a_long_passage_keeps_its_layout_in_every_window(family):
    _, tokenizer = family
    around = layout_of(tokenizer)
    question = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    head = [*around.opening, *question, *around.between]
    windows = squad.features(rows(), tokenizer, len(head) + len(around.closing) + 4, stride=2)
    assert len(windows) > 2
    for window in windows:
        ids = window["input_ids"].tolist()
        assert ids[: len(head)] == head and ids[len(ids) - len(around.closing) :] == around.closing
        assert (window["offsets"].reshape(-1, 2)[:, 0] >= 0).sum() == len(ids) - len(head) - len(around.closing)


def test_pairs_of_sentences_are_kept_apart_and_cut_to_length(family):
    _, tokenizer = family
    pairs = Dataset.from_dict({"sentence1": [QUESTION], "sentence2": [CONTEXT], "label": [1]})
    for longest in (64, 12):
        (row,) = glue.tokenize(pairs, glue.get_task("mrpc"), tokenizer, longest)
        cut = {"truncation": "longest_first", "max_length": longest}
        assert row["input_ids"].tolist() == framed(tokenizer)(QUESTION, CONTEXT, **cut)["input_ids"]
        assert row["length"] <= longest
        assert [i for i in layout_of(tokenizer).between if i not in row["input_ids"]] == []


@pytest.mark.parametrize("truncation", ["tail", "head_tail"])
def test_a_single_text_keeps_what_stands_before_it(truncation):
    tokenizer = byte_level("GPT2Tokenizer")
    (row,) = glue.tokenize(
        Dataset.from_dict({"text": [CONTEXT], "label": [1]}), glue.get_task("imdb"), tokenizer, 8, truncation
    )
    ids = tokenizer(CONTEXT)["input_ids"]
    assert row["input_ids"][0] == tokenizer.eos_token_id and row["input_ids"].tolist()[-5:] == ids[-5:]


def test_the_tokenizer_that_was_given_stays_as_it_is():
    tokenizer = byte_level("GPT2Tokenizer")
    before = json.loads(tokenizer.backend_tokenizer.to_str())
    assert framed(tokenizer)("it")["input_ids"] != tokenizer("it")["input_ids"]
    assert json.loads(tokenizer.backend_tokenizer.to_str()) == before
    assert framed(framed(tokenizer))("it", "it") == framed(tokenizer)("it", "it")


SHAPE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "initializer_range": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_questions_and_pairs_are_learned(kind, tmp_path):
    """A handful of rows by heart; what is saved answers as before. GPT-2's configuration came without padding."""
    tokenizer = TOKENIZERS[kind]()
    if kind == "roberta":
        shape = {"intermediate_size": 64, "max_position_embeddings": 130, "type_vocab_size": 1, "pad_token_id": 1}
        encoder = Roberta(RobertaConfig(**SHAPE, **shape, vocab_size=len(tokenizer)))
    else:
        end = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.eos_token_id}
        encoder = GPT2LMHeadModel(GPT2Config(**SHAPE, **end, n_positions=128, vocab_size=len(tokenizer)))
    settings = FinetuningConfig(epochs=40, learning_rate=1e-2, batch_size=8, max_length=96)
    asked = [f"where is {name}" for name in NAMES]
    contexts = [f"{name} is in the {place} again" for name, place in zip(NAMES, PLACES, strict=True)]
    golds = [
        {"text": [place], "answer_start": [text.index(place)]} for text, place in zip(contexts, PLACES, strict=True)
    ]
    questions = Dataset.from_dict({"question": asked, "context": contexts, "answers": golds})
    seconds, labels = [*NAMES[:4], *ANIMALS[4:]], [1] * 4 + [0] * 4
    pairs = Dataset.from_dict({"sentence1": [*NAMES], "sentence2": seconds, "label": labels})
    for task, data in ((SQUAD, questions), (glue.get_task("mrpc"), pairs)):
        model, _ = heads.for_task(encoder, task)
        learned = TaskData(task, data, {"validation": data}, {"fingerprint": "x", "rows": {"train": len(data)}})
        record = finetuning.finetune(model, learned, tokenizer, Accelerator(cpu=True), settings, quiet=True)
        assert record["scores"]["main"] > 0.9, record["scores"]
        assert model.config.pad_token_id == tokenizer.pad_token_id
        if task.spans:
            model.save_pretrained(tmp_path)
            framed(tokenizer).save_pretrained(tmp_path)
            again, its = type(model).from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
            for read in (tokenizer, its):
                assert finetuning.ask(again, read, asked[2], contexts[2])[0].text == PLACES[2]
