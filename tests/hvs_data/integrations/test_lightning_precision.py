"""Lightning's precision plugins: scores are those that the trainer's own forwards would give."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from example_scripts import write_photos
from hvs_data.errors import HvsError
from hvs_data.integrations.lightning import HardViewCallback
from lightning_training import RECIPE, data_of, simsiam, trainer_of

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # what Lightning warns of is its own
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
]
PRECISIONS = {
    "32-true": torch.float32,
    "bf16-mixed": torch.float32,
    "16-mixed": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
    "64-true": torch.float32,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 photos: four batches of eight."""
    return write_photos(tmp_path_factory.mktemp("photos"), 32)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_are_those_of_the_trainers_precision(precision: str, photos: Path, tmp_path: Path) -> None:
    """In a training step, and so in the trainer's own context, a selector with nothing set gives the same losses, bit for bit."""
    batches: list[hvs.Batch] = []
    source = hvs.open_source(photos)

    def noting(batch: hvs.Batch) -> Any:
        batches.append(batch)
        return batch.views, batch.labels

    def training_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        (handed_out, _), chosen = batch, batches[-1]
        assert chosen.views[0].dtype == PRECISIONS[precision] and handed_out[0].dtype == self.predictor[0].weight.dtype
        images = hvs.decode([source.read(index).data for index in chosen.index.tolist()])
        candidates = hvs.render(images, chosen.params, size=16, dtype=chosen.views[0].dtype).to(handed_out[0].dtype)
        assert torch.equal(losses_of(self, candidates, chosen), chosen.selection.losses.nan_to_num(9))
        with torch.autocast("cpu", enabled=False):
            full = SimpleNamespace(encoder=copy.deepcopy(self.encoder).float(), predictor=copy.deepcopy(self.predictor).float())
            exact = losses_of(full, candidates.float(), chosen)
        assert torch.equal(exact, chosen.selection.losses.nan_to_num(9)) == (precision == "32-true")
        return self.predictor(self.encoder(handed_out[0])).square().mean()

    def losses_of(model: Any, candidates: Tensor, chosen: hvs.Batch) -> Tensor:
        objective = hvs.objectives.SimSiam(encoder=model.encoder, predictor=model.predictor)
        return hvs.HardViewSelector(objective).select(candidates, chosen.params).losses.nan_to_num(9)

    data = data_of(photos, format=noting)
    trainer = trainer_of(tmp_path, precision=precision, callbacks=[HardViewCallback()])
    trainer.fit(simsiam(training_step=training_step), data)
    assert len(batches) == 4


def test_a_loader_that_was_made_before_scores_in_mixed_precision(photos: Path, tmp_path: Path) -> None:
    module = simsiam()
    loader = hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, 8), hvs.HardViewSelector(hvs.objectives.SimSiam(module)))
    with pytest.raises(HvsError, match="in the trainer's precision 'bf16-true', got one that was made without the trainer"):
        trainer_of(tmp_path, precision="bf16-true", callbacks=[HardViewCallback()]).fit(module, loader)
    trainer_of(tmp_path, precision="bf16-mixed", callbacks=[HardViewCallback()]).fit(simsiam(), loader)
    assert loader.selector.autocast == torch.bfloat16


def test_an_objective_keeps_its_attributes_in_any_precision(photos: Path, tmp_path: Path) -> None:
    class Scaled(hvs.objectives.SimSiam):
        scale = 1.0

        def pair_losses(self, outputs: Any) -> Tensor:
            return self.scale * super().pair_losses(outputs)

    module = simsiam()
    objective = Scaled(module)
    data = data_of(photos, objective=objective)
    trainer_of(tmp_path, precision="bf16-true").fit(module, data)
    used = data.loader.selector.objective
    objective.scale = 3.0
    assert isinstance(used, Scaled) and used.scale == 3.0 and used.modules() == objective.modules()
    assert "encode" not in vars(objective) and type(objective) is Scaled
