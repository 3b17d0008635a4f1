"""The weights of a model are those in the checkpoint's files, or it is refused in one line."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlavaForConditionalGeneration,
)

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.mm_train.export import export_llava
from gpt2v.mm_train.train import build_gpt2v
from gpt2v.model.encoders import load_encoder
from gpt2v.model.files import load_gpt2, load_pretrained, save_tokenizer
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import load_gpt2v, load_model
from gpt2v.model.packed import Reader

FIELDS = {
    "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 256,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip


def gpt2(folder, tokenizer, rows=None, **fields):
    """Write a random GPT-2 whose logits depend clearly on its input; returns its folder."""
    torch.manual_seed(5)
    rows = rows or tokenizer.get_vocab_size()
    model = GPT2LMHeadModel(GPT2Config(**FIELDS, vocab_size=rows, **fields))
    helpers.louder(model).save_pretrained(folder)
    save_tokenizer(folder, tokenizer)
    return str(folder)


def change(folder, **fields):
    """Change fields of a config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def rewrite(folder, work):
    """Change the tensors of model.safetensors in place."""
    tensors = load_file(folder / "model.safetensors")
    work(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def line(path, key="lm"):
    """The one line that refuses a GPT-2."""
    with pytest.raises(UserError) as caught:
        load_model(str(path), key, "gpt2")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{key}: ")
    return str(caught.value)


# ---- what the configuration says is kept -------------------------------------------------------

VARIANTS = [
    {},
    {"tie_word_embeddings": False},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    {"activation_function": "relu"},
    {"activation_function": "quick_gelu", "layer_norm_epsilon": 0.1},
    {"n_inner": 24},
    {"add_cross_attention": True},
]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_logits_are_those_of_plain_transformers(fields, bank, tokenizer, tmp_path):
    """In the packed pass, of every first question of some grids."""
    path = gpt2(tmp_path, tokenizer, **fields)
    plain = GPT2LMHeadModel.from_pretrained(path).eval()
    loaded = load_model(path, kind="gpt2")
    spec = GridConfig(rows=2, cols=2, questions=1)
    samples = draw_samples(spec, bank, 0, "test", np.arange(3))
    batch = Renderer(bank, PieceTable(loaded.tokenizer))(samples, TextView.of(spec))
    logits, packed = Reader(loaded.lm, -1)(batch)
    with torch.no_grad():
        expected = [
            plain(torch.from_numpy(ids[None].astype(np.int64))).logits[0][read]
            for ids, read in zip(batch.input_ids, packed.read, strict=True)
        ]
    torch.testing.assert_close(logits.detach(), torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_a_head_of_its_own_is_kept_all_the_way(tokenizer, tmp_path):
    """Built into a GPT-2v, saved, loaded, exported."""
    path = gpt2(tmp_path / "lm", tokenizer, tie_word_embeddings=False)
    head = load_file(tmp_path / "lm" / "model.safetensors")["lm_head.weight"]
    model, _ = build_gpt2v(helpers.mm_config(path))
    saved = helpers.save_checkpoint(tmp_path / "mm", 1, model, tokenizer)
    loaded, again = load_gpt2v(str(saved))
    for one in (model, again):
        assert torch.equal(one.language_model.lm_head.weight, head)
        assert not torch.equal(one.language_model.transformer.wte.weight, head)
        assert "language_model.lm_head.weight" in dict(one.named_parameters())
    assert loaded.lm is again.language_model
    export_llava(str(saved), tmp_path / "llava")
    llava = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava")
    assert torch.equal(llava.lm_head.weight, head)


def test_a_tied_head_stays_tied(tokenizer, tmp_path):
    model, _ = build_gpt2v(helpers.mm_config(gpt2(tmp_path, tokenizer)))
    lm = model.language_model
    assert lm.lm_head.weight is lm.transformer.wte.weight


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_change_no_logit_and_are_never_the_likeliest(tied, tokenizer, tmp_path):
    old = tokenizer.get_vocab_size() - 2
    path = gpt2(tmp_path, tokenizer, rows=old, tie_word_embeddings=tied)
    plain = GPT2LMHeadModel.from_pretrained(path).eval()
    torch.manual_seed(1)
    lm, _ = load_gpt2(path, "lm")
    torch.manual_seed(2)
    again, _ = load_gpt2(path, "lm")
    for (name, p), q in zip(lm.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert lm.lm_head.weight.shape == (old + 2, 32)
    assert (lm.lm_head.weight is lm.transformer.wte.weight) == tied
    ids = torch.arange(20)[None]
    with torch.no_grad():
        logits, expected = lm.eval()(ids).logits, plain(ids).logits
    torch.testing.assert_close(logits[..., :old], expected, rtol=1e-5, atol=1e-5)
    assert (logits[..., old:].amax(-1) < expected.amax(-1)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_read(dtype, tokenizer, tmp_path):
    path = gpt2(tmp_path, tokenizer)
    rewrite(tmp_path, lambda t: t.update({name: v.to(dtype) for name, v in t.items()}))
    saved = load_file(tmp_path / "model.safetensors")
    lm, _ = load_gpt2(path, "lm")
    assert torch.equal(lm.lm_head.weight, saved["transformer.wte.weight"].float())


def test_names_without_prefix_and_old_buffers_are_read(tokenizer, tmp_path):
    """As in the GPT-2 of the hub."""
    path = gpt2(tmp_path, tokenizer)

    def rename(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
        tensors["h.1.attn.masked_bias"] = torch.tensor(-1e4)

    rewrite(tmp_path, rename)
    saved = load_file(tmp_path / "model.safetensors")
    lm, _ = load_gpt2(path, "lm")
    assert torch.equal(lm.transformer.h[1].mlp.c_fc.weight, saved["h.1.mlp.c_fc.weight"])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_buffers_of_older_versions_may_hold_integers(dtype, tokenizer, tmp_path):
    """Masks of GPT-2s, and the position ids of OpenAI's CLIPs."""
    path = gpt2(tmp_path / "lm", tokenizer)
    mask = torch.ones(1, 1, 8, 8, dtype=dtype)
    rewrite(tmp_path / "lm", lambda t: t.update({"transformer.h.0.attn.bias": mask}))
    assert load_gpt2(path, "lm")
    path = helpers.tower_checkpoint("clip", tmp_path / "clip")
    ids = {
        f"{part}_model.embeddings.position_ids": torch.arange(9)[None].to(dtype)
        for part in ("text", "vision")
    }
    rewrite(tmp_path / "clip", lambda t: t.update(ids))
    assert load_encoder(path)


# ---- what does not belong together is refused ----------------------------------------------------


def test_a_head_that_should_be_tied_but_differs_is_named(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer, tie_word_embeddings=False)
    change(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight differs from transformer.wte.weight" in line(tmp_path)


def test_an_equal_head_may_stand_in_the_file(tokenizer, tmp_path):
    path = gpt2(tmp_path, tokenizer)
    rewrite(tmp_path, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))
    lm, _ = load_gpt2(path, "lm")
    assert lm.lm_head.weight is lm.transformer.wte.weight


def test_layers_left_over_are_named(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    change(tmp_path, n_layer=1)
    assert "its weights have transformer.h.1." in line(tmp_path)


def test_a_missing_head_is_named(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    change(tmp_path, tie_word_embeddings=False)
    assert line(tmp_path).endswith("it lacks lm_head.weight")


def test_a_classifier_is_no_language_model(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    model = GPT2ForSequenceClassification(GPT2Config(**FIELDS, vocab_size=500))
    model.save_pretrained(tmp_path)
    assert "score.weight" in line(tmp_path)


def test_integers_are_no_weights(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    name = "transformer.h.0.mlp.c_fc.weight"
    rewrite(tmp_path, lambda t: t.update({name: t[name].to(torch.int8)}))
    assert f"{name} is of type I8; quantised" in line(tmp_path)


def test_quantised_weights_are_refused(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    change(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantization_config: quantised weights" in line(tmp_path)


def test_an_adapter_is_refused(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter (adapter_config.json)" in line(tmp_path)


def test_two_tensors_for_one_parameter_are_refused(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    rewrite(tmp_path, lambda t: t.update({"wpe.weight": t["transformer.wpe.weight"] + 1}))
    assert "wpe.weight" in line(tmp_path)


def test_pickled_weights_are_never_loaded(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    (tmp_path / "model.safetensors").unlink()
    assert "has no model.safetensors" in line(tmp_path)

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"x": Trap()}, tmp_path / "pytorch_model.bin")
    assert "its weights are in pytorch_model.bin, a pickle" in line(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "model.gguf", "tf_model.h5"])
def test_weights_in_another_file_are_named(name, tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    assert line(tmp_path).endswith(f"has no model.safetensors, only {name}, which is not read")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pointer_of_git_lfs_is_named(name, tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert f"{name}: is a pointer of Git LFS, not the data; run git lfs pull" in line(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"'])
def test_a_configuration_is_a_mapping(content, tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    (tmp_path / "config.json").write_text(content)
    assert "config.json: must hold a mapping" in line(tmp_path)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model_type": None}, "config.json: has no model_type; a GPT-2's is gpt2"),
        ({"activation_function": "foo"}, "config.json names 'foo', which transformers does not"),
        ({"quantization_config": {}}, "config.json: quantization_config: quantised weights"),
    ],
)
def test_a_wrong_field_of_a_configuration_is_named(fields, says, tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    change(tmp_path, **fields)
    assert says in line(tmp_path)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ([], "vision_config: must be a mapping, not []"),
        (None, "vision_config: must be a mapping, not None"),
        ({"quantization_config": {"quant_method": "x"}}, "vision_config.quantization_config: "),
    ],
)
def test_a_wrong_part_of_a_configuration_is_named(part, says, tmp_path):
    path = helpers.tower_checkpoint("clip", tmp_path)
    change(tmp_path, vision_config=part)
    with pytest.raises(UserError) as caught:
        load_encoder(path)
    assert f"encoder: {path}: config.json: {says}" in str(caught.value)


def test_an_image_gpt_has_the_same_names_but_is_refused(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    change(tmp_path, model_type="imagegpt")
    assert "it is a imagegpt checkpoint" in line(tmp_path)


@pytest.fixture
def shards(tokenizer, tmp_path):
    """A GPT-2 in several files."""
    gpt2(tmp_path, tokenizer)
    lm, _ = load_gpt2(str(tmp_path), "lm")
    (tmp_path / "model.safetensors").unlink()
    lm.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    return lm, tmp_path


def test_shards_are_read(shards):
    lm, folder = shards
    again, _ = load_gpt2(str(folder), "lm")
    for (name, p), q in zip(lm.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_a_missing_shard_is_named(shards):
    _, folder = shards
    last = sorted(folder.glob("model-*.safetensors"))[-1]
    last.unlink()
    assert f"{last.name} is missing" in line(folder)


def test_a_shard_of_another_model_is_named(shards):
    _, folder = shards
    first, *_, last = sorted(folder.glob("model-*.safetensors"))
    shutil.copy(first, last)
    assert f"{last.name}: lacks " in line(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_one_line(shards, content):
    _, folder = shards
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json: is damaged" in line(folder)


def test_a_truncated_file_is_one_line(tokenizer, tmp_path):
    gpt2(tmp_path, tokenizer)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "model.safetensors: cannot be read" in line(tmp_path)


def test_a_vision_tower_with_layers_left_over_is_refused(tmp_path):
    path = helpers.tower_checkpoint("clip", tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["vision_config"]["num_hidden_layers"] -= 1
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"encoder: .*its weights have .*encoder\.layers\.2\."):
        load_pretrained(CLIPVisionModel, path, "encoder")


def test_a_gpt2v_with_a_weight_left_over_is_refused(gpt2v, tokenizer, tmp_path):
    path = helpers.save_checkpoint(tmp_path, 1, gpt2v, tokenizer)
    rewrite(path, lambda t: t.update({"projector.linear_3.weight": torch.ones(2)}))
    with pytest.raises(UserError, match=r"its weights have projector\.linear_3\.weight"):
        load_pretrained(GPT2vModel, str(path), "model")


def test_another_program_s_tokenizer_code_is_never_run(tokenizer, tmp_path):
    path = gpt2(tmp_path, tokenizer)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["t.T", 0]}}')
    with pytest.raises(UserError, match=r"tokenizer_config\.json: auto_map names Python code"):
        load_tokenizer(path, "lm")
