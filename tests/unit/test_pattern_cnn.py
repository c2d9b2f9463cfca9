"""The network is the paper's, learns, keeps its best epoch, and decides the same after loading."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lotterylib.errors import LotteryError
from lotterylib.pattern_cnn import classify_by_cnn, load_cnn, save_cnn, train_cnn
from lotterylib.patterns import generate_maps

LENGTHS = (8, 30)


@pytest.fixture(scope="module")
def data():
    return generate_maps(500, seed=0, noise=(0.0, 0.2), lengths=LENGTHS)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def trained(data, told):
    return train_cnn(*data, seed=0, epochs=12, progress=lambda *news: told.append(news))


def test_it_learns_patterns_it_has_not_seen_and_keeps_its_best_epoch(trained, told):
    maps, codes = generate_maps(200, seed=99, noise=(0.0, 0.2), lengths=LENGTHS)
    assert (classify_by_cnn(trained, maps) == codes).mean() > 0.7
    shares, texts = zip(*told, strict=True)
    assert list(shares) == pytest.approx([(epoch + 1) / 12 for epoch in range(12)])
    accuracies = [float(text.rsplit(" ", 1)[1]) for text in texts]
    assert max(accuracies) == pytest.approx(trained.validation_accuracy, abs=5e-4)
    assert max(accuracies) > 0.7
    assert len(set(accuracies)) > 1


def test_fewer_epochs_give_the_same_network_when_the_best_one_is_among_them(data):
    """The later epochs of the longer training must not leak into what is kept."""
    told, small = [], (data[0][:60], data[1][:60])
    longer = train_cnn(*small, seed=1, epochs=5, progress=lambda *news: told.append(news[1]))
    accuracies = [float(text.rsplit(" ", 1)[1]) for text in told]
    best = accuracies.index(max(accuracies)) + 1
    shorter = train_cnn(*small, seed=1, epochs=best).state_dict()
    assert all(torch.equal(value, shorter[name]) for name, value in longer.state_dict().items())


def test_decisions_depend_neither_on_the_company_nor_on_the_unit(trained, data):
    maps = data[0][:300]
    maps += [np.random.default_rng(0).random((n, n)) for n in (2, 128)]
    together = classify_by_cnn(trained, maps)
    assert together.dtype == np.int64
    assert together.tolist() == [int(classify_by_cnn(trained, [one])[0]) for one in maps]
    assert together.tolist() == classify_by_cnn(trained, [3.7 * one for one in maps]).tolist()


def test_a_loaded_network_decides_as_the_saved_one(trained, data, tmp_path):
    save_cnn(trained, tmp_path / "cnn.safetensors")
    loaded = load_cnn(tmp_path / "cnn.safetensors")
    assert loaded.validation_accuracy == trained.validation_accuracy
    assert not loaded.training
    for name, weight in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)
    assert np.array_equal(classify_by_cnn(loaded, data[0]), classify_by_cnn(trained, data[0]))


def test_too_few_maps_are_refused(data):
    with pytest.raises(LotteryError, match="Too few maps to hold out"):
        train_cnn(data[0][:5], np.arange(5), seed=0)
    for lengths in ((3, 9), (9, 8)):
        with pytest.raises(LotteryError, match="4 tokens or more, the fewest first"):
            generate_maps(5, seed=0, lengths=lengths)


def test_what_is_no_saved_network_is_refused(trained, tmp_path):
    file = tmp_path / "cnn.safetensors"
    with pytest.raises(LotteryError, match="not a readable classifier"):
        load_cnn(file)
    save_cnn(trained, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LotteryError, match="not a readable classifier"):
        load_cnn(file)
    for arrays in ({"heads": torch.zeros(3)}, trained.state_dict()):  # without its accuracy
        save_file(arrays, file)
        with pytest.raises(LotteryError, match="not a readable classifier"):
            load_cnn(file)
