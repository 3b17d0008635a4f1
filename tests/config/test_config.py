"""Configurations are merged and validated, a mistake is one line, and all files are valid."""

import pytest

from gpt2v.config.base import Config
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.load import difference, dump, load, merge, validate
from gpt2v.config.measuring import EvalConfig, ExportConfig, LadderConfig, PreviewConfig
from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.demo.config import SUB_RUNS, demo_config, presets
from gpt2v.errors import UserError
from gpt2v.messages import one_line
from gpt2v.packaged import CONFIGS
from helpers import lm_config, picture_folder

ROOT = CONFIGS.root
KINDS: dict[str, type[Config]] = {
    "lm": LMConfig,
    "mm": MMConfig,
    "encoder": EncoderConfig,
    "eval": EvalConfig,
    "probe": ProbeConfig,
    "ablate": LadderConfig,
    "data": ExportConfig,
}
FILES = sorted(ROOT.rglob("*.yaml"))
GROUPS = [{"name": "a", "pattern": "", "lr": 0.1}]
LM = {"data": {"stages": [{"steps": 2, "mix": [{}]}]}, "train": {"groups": GROUPS}}


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_every_file_in_configs_is_valid(file):
    kind = KINDS[file.relative_to(ROOT).parts[0]]
    assert isinstance(load(kind, file, {}), kind)


def test_there_are_files_for_every_class_of_configurations():
    if not FILES:
        pytest.skip(f"no YAML below {ROOT} yet")
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == set(KINDS)


@pytest.mark.parametrize("preset", presets())
def test_every_preset_builds_and_shares_its_tiles(preset, tmp_path):
    pictures = str(picture_folder(tmp_path / "pictures"))
    tiles = {"tiles.source": "folder", "tiles.path": pictures}
    config = demo_config(preset, tiles, tmp_path)
    assert all(getattr(config, name).tiles == config.tiles for name in SUB_RUNS if name != "eval")
    assert config.eval.tiles.augment == TileAugmentConfig()
    assert config.eval.tiles.model_copy(update={"augment": config.tiles.augment}) == config.tiles
    assert config.tiles.path == pictures
    assert config.mm.lm == str(tmp_path / "lm")


@pytest.mark.parametrize(
    ("sub_run", "name"),
    [("encoder", "encoder/sprites"), ("lm", "lm/grid-tiny"), ("mm", "mm/tiny")],
)
def test_the_demo_s_configurations_are_those_of_the_files(sub_run, name, tmp_path):
    preset = demo_config("default", {}, tmp_path)
    other_runs = {"lm", "encoder"}
    one = load(KINDS[name.split("/")[0]], ROOT / f"{name}.yaml", {})
    assert one.model_dump(exclude=other_runs) == getattr(preset, sub_run).model_dump(
        exclude=other_runs
    )


def test_presets_take_overrides_and_wrong_ones_are_named(tmp_path):
    config = demo_config("smoke", {"mm.train.seed": 5, "lm.data.stages.0.steps": 7}, tmp_path)
    assert config.mm.train.seed == 5
    assert config.lm.data.stages[0].steps == 7
    with pytest.raises(UserError, match=r"--preset: nope: no such preset; choose from .*smoke"):
        demo_config("nope", {}, tmp_path)
    with pytest.raises(UserError, match=r"mm\.train\.sed: unknown key"):
        demo_config("smoke", {"mm.train.sed": 5}, tmp_path)


def test_the_demo_s_probe_is_tested_on_the_evaluation_s_grids(tmp_path):
    config = demo_config("smoke", {"eval.seed": 7, "eval.grid.palette": 6}, tmp_path)
    assert (config.probe.seed, config.probe.grid.palette) == (7, 6)
    usual = demo_config("smoke", {}, tmp_path)
    assert usual.probe.seed == usual.eval.seed


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lm.tiles.size", 16, "lm.tiles: set tiles"),
        ("eval.modalities", ["text"], "eval.modalities must be"),
        ("eval.grid.form", "patch-tiled", "eval.grid.form must be"),
        ("probe.grid.mode", "chained", r"probe\.grid\.mode: has no meaning here: each question"),
        ("tiles.seed", 20240101120000, "tiles.seed"),
    ],
)
def test_options_that_the_demo_could_not_use_are_refused(key, value, says, tmp_path):
    with pytest.raises(UserError, match=says):
        demo_config("smoke", {key: value}, tmp_path)


def test_the_ladder_takes_tables_only():
    grid = {"form": "patch-tiled"}
    with pytest.raises(UserError, match=r"grid\.form: has no meaning here: the ladder"):
        validate(LadderConfig, {"model": "x", "grid": grid}, "x")


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        (PreviewConfig, {}),
        (EvalConfig, {}),
        (ExportConfig, {}),
        (ProbeConfig, {"model": "x"}),
        (LadderConfig, {"model": "x"}),
    ],
)
def test_only_training_reuses_a_set_of_samples(kind, needed):
    grid = {"n_images": 9}
    with pytest.raises(
        UserError, match=r"grid\.n_images: has no meaning here: it is for training only"
    ):
        validate(kind, {**needed, "grid": grid}, "x")


def test_features_are_written_in_full_whether_they_were_given_or_not():
    for text, mode in (("{}", "auto"), ("features: {mode: off}", "off")):
        chosen = validate(EvalConfig, read_yaml(text, "x"), "x")
        assert chosen.features.mode == mode
        written = read_yaml(dump(chosen), "x")
        assert written["features"] == {"mode": mode, "path": None, "max_gb": 4.0}
        assert validate(EvalConfig, written, "x") == chosen
    with pytest.raises(UserError, match=r"features\.mode: .*'auto', 'off' or 'require'"):
        validate(EvalConfig, {"features": {"mode": True}}, "x")


@pytest.mark.parametrize("key", ["encoder", "lm", "mm", "eval", "probe", "tiles"])
def test_a_part_of_the_demo_that_is_no_mapping_is_one_line(key, tmp_path):
    with pytest.raises(UserError, match=key):
        demo_config("smoke", {key: 3}, tmp_path)


def test_what_is_dumped_is_read_back(tmp_path):
    config = validate(LMConfig, {**LM, "tiles": {"seed": 3}}, "x")
    file = tmp_path / "c.yaml"
    file.write_text(dump(config))
    assert load(LMConfig, file, {}) == config


@pytest.mark.parametrize("number", ["3e-4", "1E5", "-2.5e+3", ".5", "1.", "1e-08"])
def test_floats_of_yaml_1_2(number):
    value = read_yaml(f"x: {number}", "f")["x"]
    assert isinstance(value, float)
    assert value == float(number)


def test_other_values_are_not_read_as_floats():
    assert read_yaml("[12, 1.2.3, e5, 3e, '3e-4']", "f") == [12, "1.2.3", "e5", "3e", "3e-4"]


def test_merging_sets_nested_keys_and_list_elements_in_a_copy():
    base = {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": None}
    merged = merge(base, {"a.b.1.c": 9, "d.e": 1, "f": "3e-4"}, "f.yaml")
    assert merged == {"a": {"b": [{"c": 1}, {"c": 9}]}, "d": {"e": 1}, "f": "3e-4"}
    assert base["a"]["b"][1]["c"] == 2


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("a.b.2.c", "number under 2"),
        ("a.b.x.c", "number under 2"),
        ("a.b.0.c.d", "no key 'd': the value above is no mapping"),
    ],
)
def test_overrides_of_keys_that_do_not_exist(key, says):
    with pytest.raises(UserError, match=f"f.yaml: {key}: .*{says}"):
        merge({"a": {"b": [{"c": 1}, {"c": 2}]}}, {key: 1}, "f.yaml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train.sed": 1}, r"train\.sed: unknown key; the keys here are seed, groups"),
        ({"data.stages.0.mix.0.row": 1}, r"data\.stages\.0\.mix\.0\.row: unknown key; .*rows"),
        ({"data.batch_size": "many"}, r"data\.batch_size: .*integer.*'many'"),
        ({"data.batch_size": 2.5}, r"data\.batch_size: .*integer"),
        ({"data.batch_size": True}, r"data\.batch_size"),
        ({"data.batch_size": 0}, r"data\.batch_size: .*greater"),
        ({"train.groups.0.lr": "fast"}, r"train\.groups\.0\.lr: .*number"),
        ({"train.groups.0.pattern": "("}, r"train\.groups\.0: pattern is not a regular"),
        ({"train.schedule": "cosin"}, r"train\.schedule: .*'cosine'"),
        ({"data.stages": []}, r"data\.stages: "),
        ({"data.stages.0.mix.0.modality": "image"}, r"mix\.0\.modality must be text"),
        ({"data.stages.0.mix.0.rows": 17}, r"mix\.0\.rows: .*less than or equal to 16, not 17"),
        ({"data.stages.0.mix.0.rows": "2-4"}, r"rows: .*not '2-4'; or a range, \[smallest"),
        ({"data.stages.0.mix.0.rows": [3, 2]}, r"mix\.0\.rows: must be one number, or \[smal"),
        ({"data.stages.0.mix.0.cols": [1, 17]}, r"mix\.0\.cols\.1: .*equal to 16, not 17"),
        ({"data.stages.0.mix.0.palette": []}, r"mix\.0\.palette: must be one number, or "),
        ({"data.stages.0.mix.0.instructions": {}}, r"mix\.0\.instructions: .*at least 1"),
        ({"data.stages.0.mix.0.instructions": {"count": 0}}, r"instructions\.count: .*greater"),
        ({"data.stages.0.mix.0.instructions": {"count": float("inf")}}, r"instructions\.count: "),
        ({"data.stages.0.mix.0.weight": float("inf")}, r"mix\.0\.weight: .*finite"),
        ({"data.stages.0.mix.0.picture.jitter": 3}, r"picture: jitter needs a scale below 1"),
        ({"data.stages.0.mix.0.patches": 17}, r"mix\.0\.patches: .*equal to 16"),
        (
            {"data.stages.0.mix.0.instructions": {"colour": 1.0}},
            r"mix\.0\.instructions\.colour: no such instruction: 'colour'; choose from .*lookup, ",
        ),
        (
            {"data.stages.0.mix.0.form": "html"},
            r"mix\.0\.form: no such text form: 'html'; choose from coordinates, csv, latex",
        ),
        ({"data.stages.0.mix.0.picture.scale": [1.0, 0.5]}, r"picture: scale must be \[smallest"),
        ({"data.stages.0.mix.0.augment.held_out": True}, r"held_out needs paraphrase"),
        ({"model.n_head": 3}, r"model: n_embd 128 must be a multiple of n_head 3"),
        ({"train": {}}, r"train\.groups: required, unless the first stage has its own"),
        ({"train.groups": []}, r"train\.groups: required, unless the first stage has its own"),
        (
            {"data.stages.0.groups": GROUPS},
            r"data\.stages\.0\.groups: has no meaning here: set train\.stage_groups, by",
        ),
        (
            {"train.stage_groups.0": GROUPS},
            r"train\.groups: never used, since train\.stage_groups\.0 replaces",
        ),
        (
            {"train.stage_groups.1": GROUPS},
            r"train\.stage_groups\.1: no stage has this name; the stages are 0$",
        ),
        ({"train.stage_groups.0": []}, r"train\.stage_groups\.0: .*at least 1 item"),
        ({"train.stage_groups.0": 3}, r"train\.stage_groups\.0: .*list, not 3"),
        ({"train.stage_groups": 3}, r"train\.stage_groups: .*dictionary, not 3"),
        (
            {"train.stage_groups.0": [{**GROUPS[0], "nam": 1}]},
            r"train\.stage_groups\.0\.0\.nam: unknown key; .*name",
        ),
        (
            {"train.stage_groups.0": [{**GROUPS[0], "lr": -1}]},
            r"train\.stage_groups\.0\.0\.lr: .*, not -1",
        ),
        (
            {"train.stage_groups.0": [{**GROUPS[0], "pattern": "("}]},
            r"train\.stage_groups\.0\.0: pattern is not a",
        ),
        ({"data.stages.0.name": ""}, r"data\.stages\.0\.name: .*at least 1 character"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(changes, says):
    with pytest.raises(UserError, match=rf"f\.yaml: .*{says}") as caught:
        validate(LMConfig, merge(LM, changes, "f.yaml"), "f.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_two_stages_of_one_name_have_no_groups_of_their_own():
    """A stage without a name is called by its number."""
    stages = [{"name": "1", "steps": 2, "mix": [{}]}, {"steps": 2, "mix": [{}]}]
    changes = {"data.stages": stages, "train.stage_groups.1": GROUPS}
    with pytest.raises(UserError, match=r"train\.stage_groups\.1: several stages have this name"):
        validate(LMConfig, merge(LM, changes, "f.yaml"), "f.yaml")


def test_an_encoder_has_no_stages():
    content = {"train": {"groups": GROUPS, "stage_groups": {"0": GROUPS}}}
    with pytest.raises(UserError, match=r"train\.stage_groups: the encoder's training has no stag"):
        validate(EncoderConfig, content, "f.yaml")


def test_an_encoder_needs_groups():
    with pytest.raises(UserError, match=r"^f\.yaml: train\.groups: required$"):
        validate(EncoderConfig, {"train": {}}, "f.yaml")


def test_configurations_cannot_be_changed():
    config = GridConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.rows = 4


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    """YAML forbids it; PyYAML would silently use the last one."""
    file = tmp_path / "eval.yaml"
    file.write_text("n_images: 10\ngrid:\n  rows: 3\n  rows: 4\n")
    with pytest.raises(UserError, match=r"eval\.yaml: line 4: .*rows is given twice"):
        load(EvalConfig, file, {})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("dat: {}\n", "dat: unknown key; the keys here are"),
        ("\xa0data: {}\n", "\\xa0data: unknown key; the keys here are"),
        ("data: 1\n", "data: must be a mapping of keys to values, not 1"),
    ],
)
def test_the_mistake_itself_is_named(tmp_path, text, fault):
    """A misspelt key is not reported as the one that is missing."""
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(LMConfig, tmp_path / "c.yaml", {})
    assert fault in one_line(str(caught.value))


def test_a_resumed_configuration_may_be_older_and_may_differ_where_results_do_not(tmp_path):
    path = tmp_path / "config.yaml"
    config = lm_config()
    text = dump(config)
    assert "  shard: false\n" in text
    assert "    weight_decay: 0.0\n" in text

    def with_text(text, **train):
        path.write_text(text)
        changed = config.model_copy(update={"train": config.train.model_copy(update=train)})
        return difference(path, changed)

    assert with_text(text) == ""
    assert with_text(text, shard=True) == ""
    assert with_text(text, seed=3) == "train.seed: 0 there, 3 now"
    older = text.replace("  ema: null\n", "").replace("    weight_decay: 0.0\n", "")
    assert with_text(older) == ""
    assert with_text(older, ema=0.9) == "train.ema: None there, 0.9 now"
    assert with_text(text + "other: 1\n") == "other: 1 there, None now"
