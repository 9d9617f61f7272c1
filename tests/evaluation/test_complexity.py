# SPDX-License-Identifier: LGPL-2.1-or-later
"""Complexity of a network whose figures can be worked out by hand."""

from __future__ import annotations

import json

import pytest
import torch

import tools
from tds.errors import InputError
from tds.evaluation.complexity import count, examine_models, parse_sizes
from tds.evaluation.graph import Enhancer


class Convolution(torch.nn.Module):
    """A 3x3 convolution from 12 to 6 channels at half size on both references."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(12, 6, 3, padding=1)

    def forward(
        self, first: torch.Tensor, target: torch.Tensor, last: torch.Tensor, side: torch.Tensor
    ) -> torch.Tensor:
        return self.convolution(torch.cat([first, last], 1))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "convolution.pt"
    metadata = {"tds_model": 1, "name": "convolution", "version": "1", "scale": 2}
    torch.jit.save(
        torch.jit.script(Convolution()), str(path), _extra_files={"tds.json": json.dumps(metadata)}
    )
    return path


def test_parameters_and_arithmetic_are_exact(archive):
    found = count(archive, 2)
    assert found["parameters_m"] == pytest.approx((12 * 6 * 9 + 6) / 1e6, abs=5e-5)
    # A quarter of the pixels, 12 x 6 x 9 multiply-adds each.
    assert found["kmac_per_pixel"] == pytest.approx(12 * 6 * 9 / 4 / 1e3, abs=1e-3)
    assert found["kmac_per_pixel_group"] == found["kmac_per_pixel"]


def test_operations_are_counted_without_views(archive):
    assert count(archive, 2)["operations"] == 2  # cat and convolution


def test_a_model_of_contract_2_computes_the_features_of_a_picture_once(tmp_path):
    class Family(torch.nn.Module):
        """3x3 from 6 to 4 channels once a picture; 1x1 from all of them to 6; one view."""

        def __init__(self) -> None:
            super().__init__()
            self.take = torch.nn.Conv2d(6, 4, 3, padding=1)
            self.merge = torch.nn.Conv2d(12, 6, 1)

        @torch.jit.export
        def features(self, picture: torch.Tensor, side: torch.Tensor) -> list[torch.Tensor]:
            return [self.take(picture)]

        @torch.jit.export
        def enhance(
            self,
            target: torch.Tensor,
            target_features: list[torch.Tensor],
            references: list[torch.Tensor],
            reference_features: list[list[torch.Tensor]],
            side: torch.Tensor,
        ) -> torch.Tensor:
            both = [reference_features[0][0], reference_features[1][0]]
            change = self.merge(torch.cat([target_features[0], both[0], both[1]], 1))
            return target + change.view(change.shape)

        def forward(self, pictures: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
            made = [self.features(pictures[:, i], side[:, i, 2:6]) for i in range(3)]
            references = [pictures[:, 1], pictures[:, 2]]
            return self.enhance(pictures[:, 0], made[0], references, made[1:], side)

    path = tmp_path / "family.pt"
    metadata = {"tds_model": 2, "name": "f", "version": "1", "scale": 1, "references": ["-1", "+1"]}
    torch.jit.save(
        torch.jit.script(Family()), str(path), _extra_files={"tds.json": json.dumps(metadata)}
    )
    found = count(path, 1)
    once, merged = 6 * 4 * 9 / 4 / 1e3, 12 * 6 / 4 / 1e3
    assert found["kmac_per_pixel"] == pytest.approx(3 * once + merged, abs=1e-3)
    assert found["kmac_per_pixel_group"] == pytest.approx(once + merged, abs=1e-3)
    assert found["operations"] == 4  # two convolutions, cat, add


def test_traffic_is_every_tensor_read_and_written(archive):
    # cat: 12 channels in, 12 out; convolution: 12 in, weights, 6 out; 4 bytes, 1/4 pixel.
    expected = 4 * (12 + 12 + 12 + 6) / 4
    assert count(archive, 2)["bytes_per_pixel"] == pytest.approx(expected, rel=0.01)


def test_memory_and_speed_are_measured_through_the_engine(archive):
    model = Enhancer("convolution", "model", 2, "0" * 64, archive)
    (row,) = examine_models([model], ["64x48"], device="cpu")
    assert (row["model"], row["size"], row["device"]) == ("convolution", "64x48", "cpu")
    assert row["fps"] > 0
    assert row["precision"] == "float32"


def test_a_plain_model_is_measured_through_a_plain_session(tmp_path):
    model = Enhancer("blend", "model", 1, "0" * 64, tools.tiny_family(tmp_path / "blend.pt"))
    (row,) = examine_models([model], ["64x48"], device="cpu")
    assert row["fps"] > 0 and row["operations"] > 0 and row["note"] == ""


def test_a_size_that_takes_too_long_is_given_up(archive):
    model = Enhancer("convolution", "model", 2, "0" * 64, archive)
    (row,) = examine_models([model], ["64x48"], device="cpu", limit=0.01)
    assert row["fps"] is None and "not done in 0.01 s" in row["note"]
    assert row["parameters_m"] > 0


def test_a_bad_size_is_refused():
    with pytest.raises(InputError):
        parse_sizes(["1920"])
    with pytest.raises(InputError, match="even"):
        parse_sizes(["641x480"])


def test_the_command_prints_a_table(tmp_path):
    model = tools.tiny_model(tmp_path / "mean.pt")
    done = tools.tds("complexity", model, "--size", "64x48", "--device", "cpu", "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["model"] == "mean" and row["kmac_per_pixel"] == 0
