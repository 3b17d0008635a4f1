"""A trained model that answers questions about single grids.

Shapes: B samples of a batch, T token positions, V words of the vocabulary, P pictures,
M vision tokens, S side of a picture in pixels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import torch

from gpt2v.ask.answers import Answer, answers_of
from gpt2v.ask.grids import OneGrid, Shown
from gpt2v.ask.inputs import Inputs, inputs_of
from gpt2v.ask.shown import one_grid
from gpt2v.ask.writing import write_line
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.config.measuring import EvalConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.questions import asked
from gpt2v.data.grids.samples import NOT_ASKED
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.render.examples import Example, examples_of
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.model.attention import Attention, PatchGrid, attention_from, on_patches
from gpt2v.model.files import quietly
from gpt2v.model.load import LoadedModel
from gpt2v.model.load import load_model as load
from gpt2v.model.scoring import score
from gpt2v.model.vision_tokens import ProjectedPatches, token_source
from gpt2v.trained.defaults import Filled, as_trained

Questions = str | Sequence[str] | None


@dataclass(frozen=True)
class Model(LoadedModel):
    """A GPT-2 or a GPT-2v with its tokenizer, which answers questions.

    `lm` is the GPT-2 (`GPT2LMHeadModel` of transformers), and `gpt2v` the GPT-2v that it is part
    of, or None. A model can be given wherever the path of a model is asked for.

    What is shown is given by keyword (see `gpt2v.ask.grids.Shown`): `sample=data[0]`, or
    `image=...` and `text=...` with an optional `palette=[...]`. The palette is what the prompt
    lists. By default it holds the objects of the text, and others up to the size that the model was
    trained on; for a picture, all objects that the model knows. `modality` says how a sample is
    shown, by default as a picture if the model takes pictures.

    Attributes:
        filled: the tiles and grids of the model's training.
    """

    filled: Filled[EvalConfig] = field(kw_only=True)

    def __fspath__(self) -> str:
        return self.name

    def __call__(self, **inputs: Any) -> Any:
        """Logits (B, T, V) of what `batch` returns, as an output of transformers (`.logits`)."""
        return (self.lm if self.gpt2v is None else self.gpt2v)(**inputs)

    def ask(
        self, questions: Questions = None, free: bool = False, **shown: Unpack[Shown]
    ) -> list[Answer]:
        """Answer questions about one grid; each by itself, without the others.

        Args:
            questions: one question or several, with or without `A:`; none: those of the sample.
            free: take any words, and let the model write an answer without choices.
            shown: the grid, see above.

        Returns:
            One answer for each question. If the possible answers are too many to list, the answer
            is what the model writes.

        Raises:
            UserError: no instruction has such words, the grid has no such cell, the model cannot
                see such a grid, or all of it is too long for the model.
        """
        grid = self.grid(**shown)
        if free:
            return [
                Answer(words, None, self._write(grid, words), {}) for words in _listed(questions)
            ]
        grid, words = self._asked(grid, questions)
        scorer = self.scorer(grid.bank)
        view = scorer.view(grid.spec, grid.modality)
        batch = grid.render(scorer.render, view, with_choices=True)
        self._check_length(batch)
        records = score(scorer.reader, batch, scorer.render)
        written = [
            "" if choices else self._write(grid.question(number))
            for number, choices in enumerate(records["choices"])
        ]
        return answers_of(records, words, written, grid.known)

    def batch(self, questions: Questions = None, **shown: Unpack[Shown]) -> Inputs:
        """The model's input for each question: the grid, the prompt and the question up to `A:`.

        `model(**model.batch(...)).logits[i, n - 1]`, where n is the number of ones in row i of
        `attention_mask`, are the logits of the first token of answer i.

        Args:
            questions: one question or several; none: those of the sample.
            shown: the grid, see above.

        Returns:
            Tensors on the model's device, with B sequences (one for each question) of T positions,
            shorter ones padded on the right: input_ids (B, T), in which a placeholder `<image>`
            stands for each vision token; attention_mask (B, T), 1 at tokens and 0 at padding;
            position_ids (B, T), from 0. With pictures also pixel_values (P, 3, S, S), float: the
            grey levels divided by 255, minus the mean of each channel, divided by its standard
            deviation (`gpt2v.config.image_mean`, `image_std`); and image_tokens (M, 2): for each
            placeholder in order, its picture and the number of that picture's vision token.

        Raises:
            UserError: see `ask`; or the model was trained without pictures at image positions.
        """
        grid, _ = self._asked(self.grid(**shown), questions)
        return self._inputs(grid)

    def attention(self, question: str, **shown: Unpack[Shown]) -> Attention:
        """The attention of the answer's position over the picture, in every layer and head.

        Args:
            question: one question.
            shown: the grid, see above; it is shown as a picture.

        Raises:
            UserError: see `batch`; or the model takes no pictures.
        """
        grid, (words,) = self._asked(self.grid(**shown), question)
        render, batch = self._rendered(grid)
        if batch.images is None or batch.pixels is None or self.gpt2v is None:
            raise UserError("attention: needs a grid that is shown as a picture")
        inputs = inputs_of([batch], render, self.gpt2v, self.lm.device)
        last = inputs["attention_mask"].sum(1, keepdim=True) - 1
        with torch.no_grad(), attention_from(self.lm, last) as layers:
            self(**inputs)
        is_image = inputs["input_ids"][0] == self.table.image_id
        weights = torch.stack([layer[0, :, 0, is_image] for layer in layers]).float().cpu().numpy()
        geometry = self.gpt2v.token_geometry
        patches = PatchGrid.of(batch.images, geometry, int(grid.samples.cols[0]))
        return on_patches(words, weights, patches, batch.pixels, geometry.patch_size)

    # ---- what is shown -----------------------------------------------------------------------

    def grid(self, **shown: Unpack[Shown]) -> OneGrid:
        """One grid, ready to be asked about; see the class.

        Raises:
            UserError: nothing is shown, or the model cannot see it.
        """
        return one_grid(self, **shown)

    def random_sample(self, seed: int = 0) -> Example:
        """A held-out sample as in training, with its questions and its right answers.

        Raises:
            UserError: the tiles of the training cannot be loaded.
        """
        bank = self.filled.bank(self.filled.config.tiles)
        data = GridDataset(self.spec, bank, seed, "test", key="grid.")
        return data[0]

    @property
    def spec(self) -> HeldOutGridConfig:
        """The grids of the model's training, in its last stage."""
        return self.filled.config.grid

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The objects that the model was trained on.

        Raises:
            UserError: nothing says which these are.
        """
        if self.trained_on is None or self.trained_on.class_names is None:
            raise UserError(
                f"{self.key}: {self.name}: nothing says on which objects it was trained, so it "
                "cannot be asked about grids"
            )
        return self.trained_on.class_names

    @cached_property
    def bank(self) -> TileBank:
        """The names of the objects, and the size of their tiles; without tiles."""
        recorded = self.trained_on and self.trained_on.tile_size
        return TileBank("own", self.class_names, recorded or self.filled.config.tiles.size, {})

    @cached_property
    def sees_pixels(self) -> bool:
        """Whether it was trained on the projected patches of pictures."""
        if self.gpt2v is None:
            return False
        return type(token_source(self.gpt2v, self.renderer(self.bank))) is ProjectedPatches

    # ---- questions and inputs ----------------------------------------------------------------

    def _asked(self, grid: OneGrid, questions: Questions) -> tuple[OneGrid, list[str]]:
        """The grid with these questions, and their words."""
        names = grid.bank.class_names
        if questions is not None:
            known = [str(name) for name in self.spec.instructions]
            samples = asked(grid.samples, _listed(questions), names, known)
            grid = replace(grid, samples=samples)
        if not grid.n_questions:
            raise UserError("question: is missing; only a sample has questions of its own")
        if grid.note:
            say(grid.note)
        (example,) = examples_of(grid.samples, grid.spec, grid.bank, pictured=False)
        return grid, example.questions

    def _rendered(self, grid: OneGrid) -> tuple[Renderer, Batch]:
        """A batch of one grid, with at most one question, in the view of a plain forward pass."""
        render = self.renderer(grid.bank)
        view = render.view(grid.spec, grid.modality)
        if grid.modality != "text" and not self.sees_pixels:
            raise UserError(f"modality: {self.name}: was trained without pictures")
        batch = grid.render(render, view)
        self._check_length(batch)
        return render, batch

    def _inputs(self, grid: OneGrid) -> Inputs:
        rendered = [self._rendered(grid.question(i)) for i in range(max(1, grid.n_questions))]
        render = rendered[0][0]
        return inputs_of([batch for _, batch in rendered], render, self.gpt2v, self.lm.device)

    def _write(self, grid: OneGrid, words: str | None = None) -> str:
        """What the model writes after the grid's question, or after any words."""
        if words is not None:
            samples = replace(grid.samples, instruction=np.full((1, 1), NOT_ASKED))
            grid = replace(grid, samples=samples)
        inputs = self._inputs(grid)
        if words is not None:
            ending = words if words.rstrip().endswith("A:") else f"{words.strip()} A:"
            ids = torch.tensor([self.table.tokens(ending)], device=self.lm.device)
            start = inputs["position_ids"][:, -1:] + 1
            inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            more = start + torch.arange(ids.shape[1], device=self.lm.device)
            inputs["position_ids"] = torch.cat([inputs["position_ids"], more], dim=1)
        model = self.lm if self.gpt2v is None else self.gpt2v
        return write_line(model, inputs, self.tokenizer)

    def _check_length(self, batch: Batch) -> None:
        needed, most = int(batch.position_ids.max()) + 1, self.lm.config.n_positions
        if needed > most:
            raise UserError(
                f"the grid and its question need {needed} positions, but the GPT-2 has "
                f"n_positions: {most}"
            )


def load_model(model: str | os.PathLike[str]) -> Model:
    """Open a trained GPT-2 or GPT-2v, to ask it about grids.

    Args:
        model: a run (its newest checkpoint), a checkpoint directory, a hub id, or what a training
            has returned.

    Raises:
        UserError: there is no such model, or its files are damaged.
    """
    name = os.fspath(model)
    with quietly():
        loaded = load(name)
    parts = (loaded.lm, loaded.gpt2v, loaded.tokenizer, loaded.path, loaded.name, loaded.key)
    return Model(*parts, filled=as_trained(EvalConfig(), name))


def _listed(questions: Questions) -> list[str]:
    if questions is None:
        raise UserError("question: is missing")
    return [questions] if isinstance(questions, str) else list(questions)
