"""The paper's numbers: each row says where it is from, and the tables agree with themselves where they should."""

import pytest
from transformers import BertConfig, DistilBertConfig

from distilnb.evidence import paper
from distilnb.models.arithmetic import parameter_groups

TASKS = ["CoLA", "MNLI", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B", "WNLI"]
TABLES = [(v, m) for v, m in paper.table("table1_glue")[["vintage", "model"]].drop_duplicates().itertuples(index=False)]
MISPRINTED = ("2020-03", "BERT-base")


def mean_of_nine(model: str, vintage: str) -> float:
    """The plain mean of the nine tasks, which the paper calls the macro score."""
    return sum(paper.glue(model, task, vintage) for task in TASKS) / len(TASKS)


def is_share(percent: float, rows: int) -> bool:
    """Whether some k of `rows` right answers rounds to `percent` at one decimal."""
    return any(round(100 * k / rows, 1) == percent for k in range(rows + 1))


@pytest.mark.parametrize("name", paper.names())
def test_every_row_has_a_source_and_a_known_mark(name):
    rows = paper.table(name)
    assert len(rows) > 0
    assert rows["source"].str.strip().str.len().min() > 5
    assert set(rows["mark"]) <= set(paper.MARKS)


@pytest.mark.parametrize(
    "name, keys",
    [
        ("table1_glue", ["vintage", "model", "task"]),
        ("table2_downstream", ["vintage", "model", "task", "metric"]),
        ("table3_speed", ["model"]),
        ("table4_ablation", ["variant"]),
        ("figure1_parameters", ["model"]),
        ("parameter_counts", ["class"]),
        ("claims", ["id"]),
        ("errata", ["id"]),
        ("device_files", ["file"]),
    ],
)
def test_no_value_stands_twice(name, keys):
    assert not paper.table(name).duplicated(keys).any()


def test_each_glue_row_has_its_nine_tasks_and_the_macro_score():
    counts = paper.table("table1_glue").groupby(["vintage", "model"])["task"].agg(sorted)
    assert len(counts) == 9
    assert all(tasks == sorted([*TASKS, "macro"]) for tasks in counts)


@pytest.mark.parametrize("vintage, model", [row for row in TABLES if row != MISPRINTED])
def test_macro_score_is_the_mean_of_the_nine_tasks(vintage, model):
    assert mean_of_nine(model, vintage) == pytest.approx(paper.glue(model, "macro", vintage), abs=0.05 + 1e-9)


def test_bert_on_mnli_is_a_misprint():
    """With 86.7 the mean is 79.72, which would print as 79.7; with the README's 84.7 it is the printed 79.5."""
    printed, macro = paper.glue("BERT-base", "MNLI"), paper.glue("BERT-base", "macro")
    erratum = paper.table("errata").set_index("id").loc["mnli"]
    assert (printed, paper.glue("BERT-base", "MNLI", "readme")) == (86.7, 84.7)
    assert (float(erratum["printed"]), float(erratum["correct"])) == (86.7, 84.7)
    assert mean_of_nine("BERT-base", "2020-03") == pytest.approx(79.72, abs=0.005)
    assert mean_of_nine("BERT-base", "2020-03") - (printed - 84.7) / 9 == pytest.approx(macro, abs=0.01)


@pytest.mark.parametrize(
    "vintage, share", [("2020-03", 96.9), ("2020-01", 99.2), ("2019-10", 99.0)], ids=["v4", "v3", "v2"]
)
def test_97_percent_follows_from_the_last_vintage_only(vintage, share):
    kept = 100 * paper.glue("DistilBERT", "macro", vintage) / paper.glue("BERT-base", "macro", vintage)
    assert kept == pytest.approx(share, abs=0.05)
    assert (round(kept) == paper.claim("retained").value) == (vintage == "2020-03")


def test_share_kept_without_wnli():
    def mean_of_eight(model: str) -> float:
        scores = [paper.glue(model, task, "readme" if task == "MNLI" else "2020-03") for task in TASKS[:-1]]
        return sum(scores) / len(scores)

    kept = 100 * mean_of_eight("DistilBERT") / mean_of_eight("BERT-base")
    assert kept == pytest.approx(paper.claim("retained_without_wnli").value, abs=0.05)


def test_sixty_percent_faster_is_a_third_less_time():
    bert, distilbert = paper.speed("BERT-base"), paper.speed("DistilBERT")
    assert bert / distilbert == pytest.approx(paper.claim("throughput_ratio").value, abs=0.005)
    assert 100 * (1 - distilbert / bert) == pytest.approx(paper.claim("time_saved").value, abs=0.05)
    assert 100 * (bert / distilbert - 1) == pytest.approx(paper.claim("faster").value, abs=5)
    fixed = bert - 2 * (bert - distilbert)
    assert fixed == pytest.approx(paper.claim("fixed_seconds").value)


@pytest.mark.parametrize(
    "claim, better, worse, task, metric",
    [
        ("squad_gap_f1", "BERT-base", "DistilBERT", "SQuAD", "f1"),
        ("squad_gap_em", "BERT-base", "DistilBERT", "SQuAD", "exact_match"),
        ("second_stage_f1", "DistilBERT (D)", "DistilBERT", "SQuAD", "f1"),
        ("second_stage_em", "DistilBERT (D)", "DistilBERT", "SQuAD", "exact_match"),
        ("imdb_gap", "BERT-base", "DistilBERT", "IMDb", "accuracy"),
    ],
)
def test_differences_of_table_2(claim, better, worse, task, metric):
    gap = paper.downstream(better, task, metric) - paper.downstream(worse, task, metric)
    assert gap == pytest.approx(paper.claim(claim).value, abs=1e-6)


def test_elmo_is_beaten_by_16_5_on_stsb_and_wins_on_sst2():
    gain = paper.glue("DistilBERT", "STS-B") - paper.glue("ELMo", "STS-B")
    assert gain == pytest.approx(paper.claim("over_elmo_stsb_table1").value)
    assert gain < paper.claim("over_elmo_stsb").value
    assert [task for task in TASKS if paper.glue("DistilBERT", task) < paper.glue("ELMo", task)] == ["SST-2"]


def test_scores_that_no_full_dev_set_can_give():
    """RTE dev has 277 rows and WNLI dev 71: scores of autumn 2019 fit only parts of them, those of v4 the whole."""
    assert not is_share(paper.glue("DistilBERT", "RTE", "2019-10"), 277)
    assert is_share(paper.glue("DistilBERT", "RTE", "2019-10"), 70)
    assert not is_share(paper.glue("DistilBERT", "WNLI", "2019-10"), 71)
    assert is_share(paper.glue("DistilBERT", "RTE"), 277)
    assert paper.glue("DistilBERT", "WNLI") == round(100 * 40 / 71, 1)


def test_parameter_counts_follow_from_the_layer_sizes():
    width, inner, words, positions = 768, 3072, 30522, 512
    norm, square = 2 * width, width * width + width
    layer = 4 * square + width * inner + inner + inner * width + width + 2 * norm
    embeddings, head = (words + positions) * width + norm, square + norm + words
    assert paper.parameters("DistilBertModel") == embeddings + 6 * layer
    assert paper.parameters("DistilBertForMaskedLM") == embeddings + 6 * layer + head
    assert paper.parameters("BertModel") == embeddings + 2 * width + 12 * layer + square
    assert paper.parameters("BertForMaskedLM") == embeddings + 2 * width + 12 * layer + head


def test_forty_percent_smaller():
    smaller = 100 * (1 - paper.parameters("DistilBertModel") / paper.parameters("BertModel"))
    assert smaller == pytest.approx(paper.claim("smaller_exact").value, abs=0.05)
    sizes = paper.table("table3_speed").set_index("model")["parameters_millions"]
    assert 100 * (1 - sizes["DistilBERT"] / sizes["BERT-base"]) == pytest.approx(paper.claim("smaller").value)
    assert round(paper.parameters("DistilBertModel") / 1e6) == sizes["DistilBERT"]


def test_207_mb_is_no_common_format():
    weights = paper.parameters("DistilBertModel")
    assert 4 * weights / 1e6 == pytest.approx(paper.claim("device_size_float32").value, abs=0.5)
    assert all(abs(size * weights / 1e6 / paper.claim("device_size").value - 1) > 0.2 for size in (4, 2, 1))


def device_bytes(row) -> int:
    """Bytes of a model file by arithmetic: weights of each group times their width in the file."""
    config = {"BERT-base": BertConfig(), "DistilBERT": DistilBertConfig()}[row["model"]]
    return sum(count * row[group] for group, count in parameter_groups(config, head="qa").items())


def test_each_file_of_the_app_is_explained_to_a_tenth_of_a_percent():
    """What is left is the graph's description: it is positive, and small."""
    for row in paper.table("device_files").to_dict("records"):
        assert 0 < row["bytes"] - device_bytes(row) < 0.001 * row["bytes"], row["file"]


def test_207_mb_is_a_file_without_attention():
    files = paper.table("device_files").set_index("file")
    (name,) = [name for name, size in files["bytes"].items() if int(size / 1e6) == paper.claim("device_size").value]
    assert name == "distilbert-512-6" and files.loc[name, "attention"] == 0 and files.loc[name, "feed-forward"] == 4


def test_the_apps_log_saves_71_percent():
    bert, distilbert = paper.claim("device_log_bert").value, paper.claim("device_log_distilbert").value
    saved = 100 * (1 - distilbert / bert)
    assert saved == pytest.approx(paper.claim("device_log_saved").value, abs=0.05)
    assert int(saved) == paper.claim("device_faster").value


def test_released_checkpoint_scores_are_shares_of_the_872_dev_sentences():
    assert is_share(paper.claim("released_sst2").value, 872)
    assert round(100 * 794 / 872, 2) == paper.claim("released_sst2_evaluated").value


def test_figure_1_counts_are_quoted_from_each_models_own_publication():
    table = paper.table("figure1_parameters").set_index("model")
    assert table["mark"].to_dict() == dict.fromkeys(table.index, "W") | {"DistilBERT": "P"}
    for model, row in table.iterrows():
        number = row["parameters_millions"]
        shown = f"{number / 1000:g}" if number >= 1000 else f"{number}M"
        assert model == "DistilBERT" or shown in row["source"], f"{model}: the source must hold its count"


def test_nothing_of_ours_stands_among_the_papers_claims():
    """A number of ours would be compared with itself."""
    for name in ("claims", "verdict_rules"):
        assert not paper.table(name)["source"].str.contains(r"\bown (?:timing|run)|we (?:timed|ran)").any()


def test_ablation_keeps_the_order_of_table_4():
    assert [paper.ablation(v) for v in ("no_ce", "no_cos", "no_mlm", "random_init")] == [-2.96, -1.46, -0.31, -3.69]


def test_names_are_matched_without_capitals_and_hyphens():
    assert paper.glue("bert-base", "sst2") == paper.glue("BERT-base", "SST-2") == 92.7


@pytest.mark.parametrize(
    "call, choice",
    [
        (lambda: paper.table("table9"), "table1_glue"),
        (lambda: paper.glue("BERT", "MNLI"), "BERT-base"),
        (lambda: paper.glue("DistilBERT", "SuperGLUE"), "STS-B"),
        (lambda: paper.glue("DistilBERT", "MNLI", "2018-10"), "2020-03"),
        (lambda: paper.downstream("DistilBERT", "IMDb", "f1"), "accuracy"),
        (lambda: paper.speed("XLNet"), "ELMo"),
        (lambda: paper.ablation("none"), "random_init"),
        (lambda: paper.parameters("GPT2Model"), "BertForMaskedLM"),
        (lambda: paper.claim("cheaper"), "retained"),
    ],
)
def test_unknown_names_raise_and_list_the_choices(call, choice):
    with pytest.raises(ValueError, match=choice):
        call()


def test_a_table_is_a_fresh_frame():
    claims = paper.table("claims")
    claims["value"] = 0.0
    assert paper.claim("smaller").value == 40
