"""Ids of the Hugging Face Hub: opened from the cache, asked for once and aloud, or one line.

No test uses a network: the Hub is a closed port, or a server of the test's own.
"""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import helpers
from gpt2v import hub, packaged
from gpt2v.cli.main import main
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.corpus.documents import read_documents
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.model.encoders import load_encoder
from gpt2v.model.files import load_gpt2, save_pretrained
from gpt2v.model.load import load_model
from gpt2v.model.weights import weight_files

CLOSED = "http://127.0.0.1:9"
CONFIGS = packaged.CONFIGS.root
BUDGET = (1, 2)  # tries; one is a question of huggingface_hub itself, once in a process
TWO = "no such file or folder here, and cannot be read from the hub: "


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub, in a folder without anything else; nothing is remembered."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    hub._asked.cache_clear()
    yield tmp_path / "cache"
    hub._asked.cache_clear()


@pytest.fixture
def tries(monkeypatch):
    """A network without a way out; returns a list with the address of each connection tried."""
    import datasets
    from huggingface_hub import constants, utils

    tried = []

    def refuse(address, *_, **__):
        tried.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    monkeypatch.setattr("socket.create_connection", refuse)
    utils.close_session()
    yield tried
    utils.close_session()


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def put(cache: Path, name: str, folder: Path, missing: tuple[str, ...] = ()) -> None:
    """Put a folder's files where huggingface_hub keeps what it has downloaded."""
    root = cache / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("c0ffee")
    (root / "snapshots").mkdir()
    (root / "blobs").mkdir()
    here = root / "snapshots" / "c0ffee"
    here.mkdir()
    for file in folder.iterdir():
        (root / "blobs" / f"b-{file.name}").write_bytes(file.read_bytes())
        (here / file.name).symlink_to(f"../../blobs/b-{file.name}")
    for name in missing:
        (root / ".no_exist" / "c0ffee").mkdir(parents=True, exist_ok=True)
        (root / ".no_exist" / "c0ffee" / name).write_text("")


def cifar_tiles(path: str | None) -> None:
    load_bank(TilesConfig(source="cifar10", path=path))


CALLS = {
    "a model": lambda name: load_model(name),
    "a GPT-2": lambda name: load_gpt2(name, "lm"),
    "a tokenizer": lambda name: load_tokenizer(name),
    "an encoder": lambda name: load_encoder(name),
    "a corpus": lambda name: next(read_documents(name)),
    "tiles": cifar_tiles,
}


@pytest.mark.parametrize("what", CALLS)
def test_without_a_network_one_try_and_two_lines(tries, capsys, what):
    with pytest.raises(UserError) as mistake:
        CALLS[what]("runs/mm-tny")
    assert len(tries) in BUDGET
    kind = "data set" if what in ("a corpus", "tiles") else "model"
    assert capsys.readouterr().err == (
        f"gpt2v: runs/mm-tny: no such file or folder here; asking {CLOSED} for a {kind}\n"
    )
    line = str(mistake.value)
    assert "runs/mm-tny: " in line
    assert "no such f" in line
    assert " here, and " in line
    assert f"cannot be read from the hub: {CLOSED} cannot be reached: [Errno 111]" in line
    with pytest.raises(UserError):
        CALLS[what]("runs/mm-tny")
    assert len(tries) in BUDGET  # it is known by now


@pytest.mark.parametrize("what", CALLS)
def test_offline_is_said_and_nothing_is_asked(tries, offline, capsys, what):
    with pytest.raises(UserError, match="offline by HF_HUB_OFFLINE and not in the cache"):
        CALLS[what]("some/thing")
    assert tries == []
    assert capsys.readouterr().err == ""


TEXT = CONFIGS / "lm" / "tinystories-tiny.yaml"
LM, SAMPLES = CONFIGS / "lm" / "grid-tiny.yaml", CONFIGS / "data" / "samples.yaml"
CIFAR = ["--tiles.per_class", "1000", "--tiles.source", "cifar10", "--tiles.path"]


@pytest.mark.parametrize(
    "argv",
    [
        ["lm", "sample", "gpt-2", "--prompt", "a"],
        ["eval", "gpt-2"],
        ["lm", "train", LM, "--tokenizer.source", "gpt-2"],
        ["lm", "train", LM, "--init", "gpt-2"],
        ["mm", "train", CONFIGS / "mm" / "tiny.yaml", "--lm", "gpt-2", "--encoder", "null"],
        ["data", "preview", SAMPLES, *CIFAR, "own/gpt-2"],
        ["data", "export", SAMPLES, *CIFAR, "own/gpt-2", "--to", "x", "--format", "llava"],
        ["data", "tokenize", TEXT, "--out", "x", "--data.stages.0.mix.0.corpus", "own/gpt-2"],
    ],
)
def test_commands_end_with_one_line_after_what_they_ask(tries, capsys, argv):
    status = main([str(word) for word in argv])
    lines = [line for line in capsys.readouterr().err.splitlines() if " s left" not in line]
    assert status == 2
    assert len(lines) == 2
    assert f"asking {CLOSED} for a " in lines[0]
    assert "gpt-2: " in lines[1]
    assert "cannot be reached" in lines[1]
    assert "Traceback" not in "".join(lines)
    assert len(tries) in BUDGET


@pytest.mark.parametrize("reach", ["offline", "tries"])
def test_what_is_in_the_cache_opens_without_a_word(
    lm, tokenizer, cache, capsys, tmp_path, request, reach
):
    save_pretrained(tmp_path / "gpt2", lm, tokenizer)
    put(cache, "some/gpt2", tmp_path / "gpt2")
    tried = request.getfixturevalue(reach)
    loaded = load_model("some/gpt2")
    assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert load_tokenizer("some/gpt2").get_vocab() == tokenizer.get_vocab()
    assert loaded.path == "some/gpt2"
    for name, weights in lm.state_dict().items():
        assert (loaded.lm.state_dict()[name] == weights).all()
    assert not tried
    assert capsys.readouterr().err == ""


def test_weights_in_several_files_open_from_the_cache(lm, tokenizer, cache, tries, tmp_path):
    lm.save_pretrained(tmp_path / "gpt2", max_shard_size="20KB")
    assert len(list((tmp_path / "gpt2").glob("model-*.safetensors"))) > 1
    put(cache, "some/gpt2", tmp_path / "gpt2", missing=("model.safetensors",))
    assert {file.parent.name for file in weight_files("some/gpt2", "lm")} == {"c0ffee"}
    (cache / "models--some--gpt2" / "snapshots" / "c0ffee").joinpath(
        next((tmp_path / "gpt2").glob("model-*")).name
    ).unlink()
    with pytest.raises(UserError, match=r"^lm: some/gpt2: .* cannot be reached"):
        weight_files("some/gpt2", "lm")


@pytest.mark.parametrize("knows", [True, False])
def test_an_encoder_without_its_processor_says_what_it_does(cache, tries, tmp_path, capsys, knows):
    """In the cache a missing file may be known to be missing; else the Hub is asked for it."""
    folder = Path(helpers.tower_checkpoint("clip", tmp_path / "clip", processor=False))
    files = ("preprocessor_config.json", "processor_config.json") if knows else ()
    put(cache, "some/clip", folder, files)
    own = load_encoder("some/clip")
    assert (
        own.tower.config.to_dict().keys() == load_encoder(str(folder)).tower.config.to_dict().keys()
    )
    lines = capsys.readouterr().err.splitlines()
    assert len(tries) in ((0,) if knows else BUDGET)
    assert len(lines) == (0 if knows else 3)
    if not knows:
        assert "continues without processor_config.json, if it has one" in lines[1]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("reach", ["offline", "tries"])
def test_a_data_set_in_the_cache_opens_without_a_word(tmp_path, capsys, request, reach, streaming):
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["one", "two"]})
    folder = tmp_path / "datasets" / "some___stories" / "default" / "0.0.0" / "c0ffee"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(
        json.dumps(
            {
                "features": {"text": {"dtype": "string", "_type": "Value"}},
                "builder_name": "parquet",
                "dataset_name": "stories",
                "config_name": "default",
                "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
                "splits": {"train": {"name": "train", "num_examples": 2, "num_bytes": 9}},
            }
        )
    )
    import pyarrow as pa

    with pa.OSFile(str(folder / "stories-train.arrow"), "wb") as sink:
        table = rows.data.table
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    tried = request.getfixturevalue(reach)
    if streaming:
        assert list(read_documents("some/stories")) == ["one", "two"]
    else:
        assert list(hub.load_dataset("some/stories", split="train")["text"]) == ["one", "two"]
    assert not tried
    assert capsys.readouterr().err == ""


# ---- a Hub that answers ------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """A Hub with one model, `some/words`."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if "some/" in self.path:
            Answers.asked.append(f"{self.command} {self.path}")
        begin = "/some/words/resolve/main/"
        if self.path.startswith("/api/models/some/words"):
            names = [{"rfilename": name} for name in self.files]
            self._send(200, json.dumps({"id": "some/words", "siblings": names}).encode())
        elif self.path.startswith(begin) and self.path.removeprefix(begin) in self.files:
            self._send(200, self.files[self.path.removeprefix(begin)])
        else:
            self._send(404, b"{}", error="RepoNotFound")

    def _send(self, status, content, error=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"e7a9"')
        self.send_header("X-Repo-Commit", "c0ffee" * 6 + "c0ff")
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


SCRIPT = """
import sys
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
try:
    print(load_tokenizer(sys.argv[1]).get_vocab_size())
except UserError as error:
    print(error)
"""


@pytest.fixture
def server(tokenizer):
    Answers.files = {"tokenizer.json": tokenizer.to_str().encode(), "config.json": b"{}"}
    Answers.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def child(endpoint: str, home: Path, name: str, **more: str) -> tuple[str, list[str]]:
    """What a new process prints on stdout and stderr that asks a Hub for a tokenizer."""
    env = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and "PROXY" not in k.upper()}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], env=env | more, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


def test_a_hub_is_asked_once_and_then_its_copy_is_used(server, tokenizer, tmp_path):
    size = str(tokenizer.get_vocab_size())
    said, lines = child(server, tmp_path, "some/words")
    assert said == size
    assert lines == [f"gpt2v: some/words: no such file or folder here; asking {server} for a model"]
    assert Answers.asked[0].startswith("GET /api/models/some/words")
    n_asked = len(Answers.asked)
    assert child(server, tmp_path, "some/words") == (size, [])
    assert child(CLOSED, tmp_path, "some/words") == (size, [])
    assert child(server, tmp_path, "some/words", HF_HUB_OFFLINE="1") == (size, [])
    assert len(Answers.asked) == n_asked


def test_an_id_that_the_hub_does_not_have(server, tmp_path):
    said, lines = child(server, tmp_path, "some/wrods")
    assert said == (
        f"tokenizer.source: some/wrods: cannot be loaded: {TWO}{server} has no such model, or it "
        "is private"
    )
    assert len(lines) == 1
    assert len(Answers.asked) == 1


def test_a_model_without_the_file(server, tmp_path):
    del Answers.files["tokenizer.json"]
    said, _ = child(server, tmp_path, "some/words")
    assert said.endswith(f"cannot be loaded: {TWO}it has no tokenizer.json")


def test_a_proxy_is_used(server, tmp_path):
    """The address is that of no machine, so only the proxy can answer."""
    child("http://hub.invalid", tmp_path, "some/words", HTTP_PROXY=server, http_proxy=server)
    assert Answers.asked[0].startswith("GET http://hub.invalid/api/models/some/words")


@pytest.mark.parametrize("name", ["a b", "some//thing", "é/x", "-x-/y", "x.git", "a/b:c"])
def test_what_cannot_be_an_id(tries, name):
    with pytest.raises(UserError, match=r"cannot be (loaded|read)|no such run"):
        load_model(name)


@pytest.mark.parametrize("path", ["runs\\tiny", "C:\\models\\tiny", "C:/tiny", "\\\\server\\x"])
def test_paths_of_windows_are_no_ids(tries, path):
    """Nothing is asked for, nor is the Hub's library imported."""
    assert hub.looks_local(path)
    with pytest.raises(hub.HubError, match="cannot be an id there"):
        hub.model_file(path, "config.json")
    assert tries == []
