"""Scripts with which shells complete commands, options and values."""

import shutil
import subprocess

import pytest

from gpt2v.cli.completion import SHELLS, script
from gpt2v.cli.main import _parser, main
from helpers import refusal


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """The words that bash completes a command line with."""
    file = tmp_path_factory.mktemp("completion") / "gpt2v.bash"
    file.write_text(script(_parser(), "bash"))

    def complete(*words):
        line = " ".join(f"'{word}'" for word in words)
        code = (
            f"source {file}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
            'function=$(complete -p gpt2v | sed "s/.*-F \\([^ ]*\\).*/\\1/"); '
            '$function; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gpt2v", "ev"], {"eval"}),
        (["gpt2v", "data", ""], {"preview", "export", "suites", "tokenize"}),
        (["gpt2v", "eval", "--moda"], {"--modalities"}),
        (["gpt2v", "eval", "--part"], {"--parts"}),
        (["gpt2v", "eval", "--grid.mod"], set()),  # the command would refuse it
        (["gpt2v", "eval", "--modalities", "t"], {"text", "text+image"}),
        (["gpt2v", "eval", "--grid.form", "pl"], {"plain"}),
        (["gpt2v", "eval", "--device", ""], {"auto", "cpu", "cuda", "mps"}),
        (["gpt2v", "mm", "train", "--train.comp"], {"--train.compile"}),
        (["gpt2v", "mm", "train", "--train.compile", ""], {"true", "false"}),
        (["gpt2v", "mm", "train", "--projector", "p"], {"pixel-shuffle"}),
        (["gpt2v", "lm", "train", "--data.stages.0.mix.0.pict"], set()),
        (["gpt2v", "data", "export", "--format", "l"], {"llava", "lm-eval", "lmms-eval"}),
        (["gpt2v", "completion", "b"], {"bash"}),
    ],
)  # fmt: skip
def test_bash_completes(bash, words, expected):
    assert set(bash(*words)) == expected


def test_bash_completes_the_names_of_suites_and_files(bash, tmp_path, monkeypatch):
    assert "palette-v1" in bash("gpt2v", "eval", "--suite", "pal")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").touch()
    assert bash("gpt2v", "lm", "train", "ti") == ["tiny.yaml"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_it_can_read(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "grid.instructions" in text
    assert "pixel-shuffle" in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_another_shell(capsys):
    said = refusal(capsys, "completion", "csh")
    assert said.endswith("completion: csh: must be one of bash, zsh, fish")
