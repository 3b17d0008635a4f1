"""Any Hugging Face model: what it says and how likely each choice is, against plain transformers;
batches, prompts, and what is refused."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from gpt2v.cli.main import main
from gpt2v.config.choice import Choice
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.config.hf import HFConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.instructions import NAMES
from gpt2v.eval.hf.answering import Answering, Asked
from gpt2v.eval.hf.load import load_hf
from gpt2v.eval.hf.prompts import Brief, Document
from gpt2v.eval.hf.scorer import HFScorer
from gpt2v.eval.hf.whole import is_whole, pattern
from gpt2v.eval.shards import EvaluationJob
from gpt2v.registry import PROMPTS
from helpers import refusal
from hf_checkpoints import FAMILIES, SEES, build, changed, without

# of PaliGemma's processor
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHOWN = [
    (family, modality)
    for family in FAMILIES
    for modality in ("text", "image", "text+image")
    if modality == "text" or family in SEES
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("hf")
    return {family: build(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def opened(checkpoints):
    return {
        family: load_hf(f"hf:{path}", HFConfig(), pictures=family in SEES)
        for family, path in checkpoints.items()
    }


def prompt_for(family):
    return "brief" if family in ("llama", "llava", "idefics3") else "brief-plain"


def scorer(hf, prompt, batch_size=8):
    return HFScorer(hf, Choice(prompt, PROMPTS), batch_size)


def grids(bank, n=3, **spec):
    content = {"rows": 2, "cols": 2, "questions": 3, **spec}
    return GridDataset(HeldOutGridConfig.model_validate(content), bank, 1, "test", n)


@pytest.mark.parametrize(("family", "modality"), SHOWN)
def test_predictions_do_not_depend_on_the_batch(opened, bank, family, modality):
    data = grids(bank, instructions={"lookup": 2, "count": 1})
    one, seven = (
        scorer(opened[family], prompt_for(family), size).score(data, np.arange(3), modality)
        for size in (1, 7)
    )
    logprobs = [[x for row in records.pop("logprobs") for x in row] for records in (one, seven)]
    assert one == seven
    assert np.allclose(*logprobs, atol=1e-4)
    assert any(one["generated"])
    assert len({round(x, 6) for x in logprobs[0]}) > len(logprobs[0]) / 4  # they tell something


def plain_logprobs(family, path, prompt, choice, end):
    """Log-probability of a choice by one plain pass over prompt and choice, without padding."""
    kind = AutoModelForImageTextToText if family in SEES else AutoModelForCausalLM
    model = kind.from_pretrained(path, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(path)
    tokens = getattr(processor, "tokenizer", processor)
    if family == "paligemma":  # its prompt is read in both directions, what follows is not
        found = processor(
            text=prompt.text, images=prompt.pictures[0], suffix=choice, return_tensors="pt"
        )
        found.pop("labels")
        suffix = found["token_type_ids"][0] == 1
        with torch.no_grad():
            logp = model(**found).logits.log_softmax(-1)[0]
        at = suffix.nonzero().ravel()
        picked = logp[at - 1, found["input_ids"][0, at]]
        return float(picked[:-1].sum()), picked
    read = processor if prompt.pictures else tokens
    images = {"images": [list(prompt.pictures)]} if prompt.pictures else {}
    found = read(text=[prompt.text + prompt.lead + choice + end], **images, return_tensors="pt")
    before = read(text=[prompt.text], **images, return_tensors="pt")
    start = before["input_ids"].shape[1]
    with torch.no_grad():
        logp = model(**found).logits.log_softmax(-1)[0]
    ids = found["input_ids"][0]
    return float(logp[torch.arange(start - 1, len(ids) - 1), ids[start:]].sum()), ids[start:]


@pytest.mark.parametrize(
    ("family", "modality"),
    [("llama", "text"), ("gpt2", "text"), ("llava", "image"), ("idefics3", "text+image"),
     ("paligemma", "image")],
)  # fmt: skip
def test_log_probabilities_are_those_of_one_plain_pass(opened, checkpoints, bank, family, modality):
    asked = scorer(opened[family], prompt_for(family), 4)
    data = grids(bank, 1)
    questions = asked._questions(data, np.zeros(1, np.int64), modality, "independent")
    _, found = asked._answers(questions)
    prompt, choices = questions.prompts[0], questions.choices[0]
    plain = [plain_logprobs(family, checkpoints[family], prompt, c, "")[0] for c in choices]
    assert found[0] == pytest.approx(plain, abs=1e-4)
    assert len({len(asked._answering.spelling(prompt, c)) for c in choices}) > 1


def test_a_choice_that_begins_another_is_scored_with_its_end(opened, checkpoints):
    """As in our own scoring, in all choices of such a question."""
    asked = scorer(opened["gpt2"], "document")._answering
    prompt = Asked("How many? A:", lead=" ")
    _, (found,) = asked.answers([prompt], [["1", "12", "3"]], [4])
    plain = [
        plain_logprobs("gpt2", checkpoints["gpt2"], prompt, choice, "\n")[0]
        for choice in ("1", "12", "3")
    ]
    assert found == pytest.approx(plain, abs=1e-4)
    _, (alone,) = asked.answers([prompt], [["1", "3"]], [4])
    assert alone[0] > found[0]


@pytest.mark.parametrize("modality", ["text", "image", "text+image"])
def test_our_own_document_gets_the_answers_of_our_own_scorer(mm_run, tmp_path, modality):
    """A GPT-2v, and its export as a LLaVA that is asked question by question."""
    export, ours, theirs = tmp_path / "export", tmp_path / "ours", tmp_path / "theirs"
    assert main(["mm", "export", str(mm_run), "--to", str(export)]) == 0
    every = ", ".join(f"{name}: 1" for name in NAMES)
    grid = f"{{rows: 2, cols: 2, questions: 2, instructions: {{{every}}}}}"  # fills a picture
    options = ["--modalities", f"[{modality}]", "--n_images", "8", "--grid", grid]
    assert main(["eval", str(mm_run), *options, "--out", str(ours)]) == 0
    argv = ["eval", f"hf:{export}", "--suite", str(ours / "config.yaml"), "--out", str(theirs)]
    assert main([*argv, "--hf.prompt", "document"]) == 0
    results = [json.loads((run / "results.json").read_text()) for run in (ours, theirs)]
    assert results[0].get("vision") == results[1].get("vision")
    assert ("vision" in results[0]) == (modality != "text")
    rows, others = (pq.read_table(run / "records.parquet").to_pylist() for run in (ours, theirs))
    assert len(rows) == len(others) > 0
    for row, other in zip(rows, others, strict=True):
        for key in ("sample", "question", "truth", "choices", "tiles", "prediction", "exact"):
            assert row[key] == other[key], key
        assert row["logprobs"] == pytest.approx(other["logprobs"], abs=2e-4)
        assert other["generated"].startswith(row["generated"].rstrip("…")[:5])


def test_decoding_is_plain_greedy_whatever_the_checkpoint_prefers(checkpoints, bank, tmp_path):
    """Instruction-tuned models bring penalties, which would punish the listed objects."""
    wilful = shutil.copytree(checkpoints["llama"], tmp_path / "wilful")
    wishes = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "num_beams": 2}
    changed(wilful, "generation_config.json", **wishes, do_sample=True, temperature=3.0)
    said = [
        scorer(load_hf(f"hf:{path}", HFConfig(), pictures=False), "brief").score(
            grids(bank), np.arange(3), "text"
        )
        for path in (checkpoints["llama"], wilful)
    ]
    assert said[0] == said[1]


def test_a_template_with_a_space_before_answers(checkpoints, bank, tmp_path):
    """As LLaVA-1.5's `ASSISTANT: text`: the space belongs to the answer."""
    spaced = shutil.copytree(checkpoints["llava"], tmp_path / "spaced")
    template = (spaced / "chat_template.jinja").read_text()
    turn = "{% for turn in messages %}{{ turn['role'] }}: "
    assert turn in template
    spaced_turn = template.replace("assistant:\n", "assistant:")
    (spaced / "chat_template.jinja").write_text(spaced_turn)
    asked = scorer(load_hf(f"hf:{spaced}", HFConfig()), "brief")
    questions = asked._questions(grids(bank, 1), np.zeros(1, np.int64), "image", "independent")
    assert questions.prompts[0].text.endswith("assistant:")
    assert questions.prompts[0].lead == " "
    assert (
        asked._answering.spelling(questions.prompts[0], "cat")
        == asked.hf.tokenizer(" cat", add_special_tokens=False).input_ids
    )
    _, found = asked._answers(questions)
    plain = [
        plain_logprobs("llava", spaced, questions.prompts[0], choice, "")[0]
        for choice in questions.choices[0]
    ]
    assert found[0] == pytest.approx(plain, abs=1e-4)


def test_a_generate_that_takes_no_given_tokens_is_refused(opened, bank, monkeypatch):
    """Some models have a `generate` of their own; theirs would be scores of other words."""
    hf = opened["llama"]
    generate = hf.model.generate

    def own(logits_processor, **inputs):
        def plain(input_ids, scores):
            logits_processor[0](input_ids, scores)
            return scores

        return generate(**inputs, logits_processor=[plain])

    monkeypatch.setattr(hf.model, "generate", own)
    with pytest.raises(Exception, match="its generate takes no given tokens"):
        scorer(hf, "brief").score(grids(bank), np.arange(3), "text")


def test_a_model_that_thinks_first_is_refused(checkpoints, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Answering, "_words", lambda *_: "<think>\nOkay, the…")
    line = says(capsys, tmp_path, checkpoints["llama"], *TEXT)
    assert "thinks before it answers (text), and is cut" in line


def test_words_for_a_model_whose_processor_cannot_be_loaded(checkpoints, bank, tmp_path):
    """Its tokenizer's template may take words only, as a list or as a text."""
    bare = without(checkpoints["llava"], tmp_path / "bare", "processor_config.json")
    (bare / "chat_template.jinja").write_text(
        "{% for turn in messages %}{{ turn['role'] + ': ' + turn['content'] }}\n{% endfor %}"
    )
    hf = load_hf(f"hf:{bare}", HFConfig(), pictures=False)
    asked = scorer(hf, "brief")
    questions = asked._questions(grids(bank, 1), np.zeros(1, np.int64), "text", "independent")
    assert questions.prompts[0].text.startswith("user: | ")
    assert any(asked.score(grids(bank), np.arange(3), "text")["generated"])


def test_borders_of_patches_only_where_the_whole_picture_fills_the_tower(checkpoints, tmp_path):
    """A processor that also cuts it into parts shows other cells in the patches."""
    for splits in (False, True):
        model = shutil.copytree(checkpoints["idefics3"], tmp_path / f"model-{splits}")
        file = model / "processor_config.json"
        content = json.loads(file.read_text())
        content["image_processor"] |= {"do_image_splitting": splits, "size": {"longest_edge": 64}}
        file.write_text(json.dumps(content))
        out = tmp_path / f"run-{splits}"
        grid = "{rows: 2, cols: 2, instructions: {matrix: 1}}"
        argv = ["eval", f"hf:{model}", "--n_images", "2", "--grid", grid, "--out", str(out)]
        assert main(argv) == 0
        results = json.loads((out / "results.json").read_text())
        assert results["vision"] == {"image_size": 32, "patch_size": 16}
        assert ("patch_borders" in results) == (not splits)


@pytest.mark.parametrize(
    ("family", "changes", "whole"),
    [
        ("llava", {}, True),
        ("llava", {"size": {"shortest_edge": 40}}, False),  # the edges are cut off
        ("llava", {"size": {"shortest_edge": 32}, "do_center_crop": False}, True),
        ("llava", {"size": {"shortest_edge": 64}, "do_center_crop": False}, False),
        ("idefics3", {}, True),
        ("idefics3", {"do_image_splitting": True}, True),  # it is too small to be split
        ("idefics3", {"do_image_splitting": True, "size": {"longest_edge": 64}}, False),
        ("paligemma", {}, True),
    ],
)
def test_whether_a_processor_shows_pictures_as_they_are(
    checkpoints, bank, monkeypatch, family, changes, whole
):
    hf = load_hf(f"hf:{checkpoints[family]}", HFConfig())
    for name, value in changes.items():
        monkeypatch.setattr(hf.processor.image_processor, name, value)
    for side in (1, 2, 3):
        data = grids(bank, 1, rows=side, cols=side, questions=1)
        assert scorer(hf, prompt_for(family)).fills(data) == whole


@given(st.integers(12, 300), st.integers(24, 240), st.integers(1, 3), st.floats(0.01, 3))
def test_a_pattern_tells_whether_a_picture_is_whole(shown_side, side, filter_, contrast):
    shown = pattern((shown_side, shown_side))

    def given_as(picture):
        return contrast * torch.tensor(np.asarray(picture)).movedim(-1, 0)[None].float() - 1

    right = given_as(shown.resize((side, side), filter_))
    assert is_whole(right, shown, side)
    assert is_whole(right[None], shown, side)
    assert not is_whole(right.flip(-1), shown, side)
    assert not is_whole(right.mT, shown, side)
    assert not is_whole(torch.stack([right, right], 1), shown, side)
    assert not is_whole(right[..., :-1], shown, side)
    assert not is_whole([right], shown, side)
    rim = side // 8
    larger = shown.resize((side + 2 * rim, side + 2 * rim), filter_)
    cropped = larger.crop((rim, rim, rim + side, rim + side))
    assert not is_whole(given_as(cropped), shown, side)


# ---- results and prompts ---------------------------------------------------------------------


def test_results_tell_the_prompt_and_are_resumed(checkpoints, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    argv = ["eval", f"hf:{checkpoints['llava']}", "--n_images", "2", "--out", str(run)]
    do = EvaluationJob.do

    def stop(job, piece):
        if piece == 1:
            raise KeyboardInterrupt
        do(job, piece)

    with monkeypatch.context() as patched:
        patched.setattr(EvaluationJob, "do", stop)
        assert main(argv) == 130
    assert main([*argv, "--resume", "--hf.batch_size", "3"]) == 0
    results = json.loads((run / "results.json").read_text())
    assert [row["model"] for row in results["results"]] == ["hf", "hf"]
    prompt = results["prompt"]
    assert prompt["name"] == "brief"
    assert prompt["image"]["example"].startswith("user: <image>The grid above is size 3 by 3.")
    assert prompt["text"]["example"].startswith("user: | ")
    assert prompt["image"]["hash"] != prompt["text"]["hash"]
    assert results["checkpoint"]["model"] == argv[1]
    assert main(["report", str(run)]) == 0
    page = (run / "report/index.html").read_text()
    assert "<dt>From pictures</dt>" in page
    assert "llava, the grid as a table" in page
    assert "GPT-2v" not in page
    other = tmp_path / "other"
    assert main([*argv[:-1], str(other), "--hf.prompt", "brief-plain"]) == 0
    plain = json.loads((other / "results.json").read_text())["prompt"]
    assert plain["text"]["hash"] != prompt["text"]["hash"]


def test_a_suite_is_limited(checkpoints, tmp_path):
    argv = ["eval", f"hf:{checkpoints['gpt2']}", "--suite", "grid-sizes-v2", "--limit", "2"]
    argv += ["--modalities", "[text]", "--hf.prompt", "document", "--out", str(tmp_path / "run")]
    assert main([*argv, "--parts", "[1x1, 2x2]"]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert [row["n_images"] for row in results["results"]] == [2, 2]


def test_a_brief_prompt_says_what_an_answer_is(bank):
    data = grids(bank, 1, instructions={"count": 1}, augment={"index_bases": [1]})
    example = data.examples(np.zeros(1, np.int64))[0]
    first, second = example.asked[:2]
    words = Brief().words(example, second, (first,), table=True)
    assert words.startswith(example.table + example.prompt)
    assert words.endswith("?\nAnswer with a number, and nothing else.")
    assert "numbered from 1.\n" in words
    assert f"{first.question} {first.answer}\n" in words
    assert example.table not in Brief().words(example, second, (), table=False)


def test_what_counts_as_right():
    assert all(Brief().is_right(said, "Bird") for said in ("bird", " Bird.", "**bird**", "'bird'!"))
    assert not any(Brief().is_right(said, "bird") for said in ("a bird", "birds", "", "bird…cat"))
    assert Document().is_right("bird", "bird")
    assert not Document().is_right("Bird", "bird")


def test_earlier_questions_are_in_chained_prompts(opened, bank):
    asked = scorer(opened["gpt2"], "document")
    prompts = asked._questions(grids(bank, 1), np.zeros(1, np.int64), "text", "chained").prompts
    assert [prompt.text.count("A:") for prompt in prompts] == [1, 2, 3]
    assert prompts[2].text.startswith(prompts[1].text + " ")


def test_a_choice_that_shares_a_token_with_the_prompt_is_spelt_by_itself(opened):
    """After `: ` the tokenizer would join the space with what follows."""
    hf = opened["gpt2"]
    spelling = scorer(hf, "document")._answering.spelling
    assert spelling(Asked("it is: "), "cat") == hf.tokenizer("cat").input_ids
    assert spelling(Asked("it is:", lead=" "), "cat") == hf.tokenizer(" cat").input_ids


# ---- what is refused -------------------------------------------------------------------------


def says(capsys, tmp_path, model, *more):
    argv = ["eval", f"hf:{model}", "--n_images", "2", "--out", str(tmp_path / "out"), *more]
    return refusal(capsys, *argv)


TEXT = ("--modalities", "[text]")


def test_a_text_model_is_not_shown_pictures(checkpoints, tmp_path, capsys):
    assert "reads text only, and sees no pictures; use --modalities text" in says(
        capsys, tmp_path, checkpoints["llama"]
    )


def test_a_model_without_a_tokenizer(checkpoints, tmp_path, capsys):
    bare = without(
        checkpoints["llama"], tmp_path / "bare", "tokenizer.json", "tokenizer_config.json"
    )
    assert "bare: has no tokenizer that can be loaded" in says(capsys, tmp_path, bare, *TEXT)


@pytest.mark.parametrize(("family", "options"), [("gpt2", TEXT), ("paligemma", ())])
def test_a_model_without_a_chat_template(checkpoints, tmp_path, capsys, family, options):
    line = says(capsys, tmp_path, checkpoints[family], *options)
    assert "has no chat template, which prompt brief needs; choose --hf.prompt brief-plain" in line


def test_a_model_that_answers_nothing(checkpoints, tmp_path, capsys):
    """Its likeliest token is always the end."""
    silent = shutil.copytree(checkpoints["gpt2"], tmp_path / "silent")
    weights = load_file(silent / "model.safetensors")
    weights["transformer.ln_f.bias"] = 100 * weights["transformer.wte.weight"][2]
    save_file(weights, silent / "model.safetensors", metadata={"format": "pt"})
    line = says(capsys, tmp_path, silent, "--hf.prompt", "document", *TEXT)
    assert "answers nothing to the first 9 questions (text); choose another --hf.prompt" in line


def test_logits_that_are_not_finite(checkpoints, tmp_path, capsys):
    broken = shutil.copytree(checkpoints["gpt2"], tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["transformer.ln_f.weight"][0] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    line = says(capsys, tmp_path, broken, "--hf.prompt", "document", *TEXT)
    assert "broken: sample 0: its logits are not finite" in line


def test_a_sample_that_is_too_long_is_named(tmp_path, capsys):
    short = build("llama", tmp_path / "short", max_position_embeddings=64)
    line = says(capsys, tmp_path, short, *TEXT)
    assert "short: sample 0 and its answer need" in line
    assert "positions, but the model has 64" in line


def test_a_sample_at_which_the_model_fails_is_named(opened, bank, monkeypatch):
    """Sample 1 fails in whatever batch it is; the others are no excuse."""
    hf = opened["llama"]
    generate = hf.model.generate
    asked = scorer(hf, "brief")
    data = grids(bank)
    bad = asked._questions(data, np.array([1]), "text", "independent").prompts[0].text
    ids = hf.tokenizer(bad).input_ids

    def fails(**inputs):
        if any(row[-len(ids) :] == ids for row in inputs["input_ids"].tolist()):
            raise RuntimeError("out of luck")
        return generate(**inputs)

    monkeypatch.setattr(hf.model, "generate", fails)
    with pytest.raises(Exception, match="sample 1: the model fails: out of luck"):
        asked.score(data, np.arange(3), "text")


def test_models_that_are_measured_otherwise(mm_run, tmp_path, capsys):
    line = says(capsys, tmp_path, mm_run)
    assert "is a GPT-2v, which is measured without hf:" in line
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/config.json").write_text('{"model_type": "clip"}')
    line = says(capsys, tmp_path, tmp_path / "clip")
    assert "is a clip checkpoint; needed is a model that transformers opens as" in line


def test_options_without_effect(checkpoints, mm_run, tmp_path, capsys):
    argv = ["eval", str(mm_run), "--out", str(tmp_path / "out"), "--hf.prompt", "document"]
    line = refusal(capsys, *argv)
    assert "hf.prompt: document has no effect: only a model named hf:NAME" in line
    line = says(capsys, tmp_path, checkpoints["llava"], "--features.mode", "require")
    assert "features.mode: require has no effect" in line
    line = says(capsys, tmp_path, checkpoints["llava"], "--limit", "5")
    assert "--limit: has no meaning here: n_images is the number of grids" in line


@pytest.mark.parametrize("processor", ["Qwen2VL", "SmolVLM"])
def test_a_processor_that_needs_torchvision(checkpoints, tmp_path, capsys, processor):
    """Said in one line where it is missing; opened where it is there."""
    model = shutil.copytree(checkpoints["idefics3"], tmp_path / "model")
    (model / "preprocessor_config.json").unlink(missing_ok=True)
    content = {
        "processor_class": f"{processor}Processor",
        "image_processor": {"image_processor_type": f"{processor}ImageProcessor"},
        "video_processor": {"video_processor_type": f"{processor}VideoProcessor"},
    }
    (model / "processor_config.json").write_text(json.dumps(content))
    changed(model, "tokenizer_config.json", processor_class=f"{processor}Processor")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError):
        line = says(capsys, tmp_path, model)
        assert "has no processor that can be loaded" in line
        assert "requires the Torchvision library but it was not found" in line
        return
    assert load_hf(f"hf:{model}", HFConfig()).processor is not None
