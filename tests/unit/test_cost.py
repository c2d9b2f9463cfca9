"""What a run costs: the arithmetic agrees with what PyTorch counts, and with the paper's sizes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lotterylib.data.loading import load_model
from lotterylib.data.pretrained import find_encoder
from lotterylib.encoder import Shape, shape_of
from lotterylib.report import paper
from lotterylib.runs.cost import KEPT, Amounts, Split, Work, split_of, work_of
from lotterylib.runs.jobs import ALL, Cell, cells_of
from lotterylib.runs.settings import parse_settings
from lotterylib.tasks import find_task

BERT_BASE = Shape(12, 12, 768, 3072, 109_483_778)


@pytest.fixture(scope="module")
def tiny():
    model = load_model(find_encoder("tiny"), find_task("rte"), seed=0)
    model.set_attn_implementation("eager")  # whose products PyTorch counts
    return model


def amounts(shape=BERT_BASE, train=(8551, 11.0), dev=(1043, 11.0)):
    splits = (split_of([int(length)], rows) for rows, length in (train, dev))
    return Amounts(*splits, shape, epochs=3, batch=32)


def test_a_pass_is_what_pytorch_counts_in_the_encoder(tiny):
    ids = torch.randint(6, 40, (5, 30))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny(input_ids=ids, attention_mask=torch.ones_like(ids))
    counts = counter.get_flop_counts()["Global"]
    head = 5 * 2 * 32 * (32 + 2)  # pooler and task layer are left aside
    shape = shape_of(tiny)
    # Biases are added, not multiplied, but counted as parameters.
    biases = shape.layers * (3 * 32 + 32 + 64 + 32)
    ours = split_of([30] * 5).forward(shape) - 2 * biases * 150
    assert ours == sum(counts.values()) - head


def test_a_training_step_is_three_passes(tiny):
    ids = torch.randint(6, 40, (4, 20))
    with FlopCounterMode(display=False) as counter:
        tiny(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
    counted = counter.get_total_flops()
    ours = 3 * split_of([20] * 4).forward(shape_of(tiny))
    assert counted == pytest.approx(ours, rel=0.12)  # attention goes back at 2.5 times its cost


def test_a_sample_stands_for_its_split():
    whole = split_of([4, 6, 8, 10] * 100)
    assert split_of([4, 6, 8, 10], rows=400) == whole
    assert whole == Split(400, 2800.0, 100 * (16 + 36 + 64 + 100))


def test_the_share_that_is_assumed_is_the_papers():
    sizes = paper.sizes()
    good = sizes[(sizes["method"] == "structured") & (sizes["subnetwork"] == "good")]
    kept = good[good["task"] != "wnli"].groupby("task")["encoder_mean"].first().mean()
    assert round(kept, 2) == KEPT


def test_every_cell_has_a_cost_and_more_training_costs_more():
    settings = parse_settings("similarity", budget="full")
    cost = {
        (cell.stage, cell.method, cell.kind): work_of(cell, amounts())
        for cell in cells_of(settings, ALL)
    }
    assert all(work.flop >= 0 for work in cost.values())
    full = cost["finetune", "", ""]
    assert full.steps == full.weight_steps == pytest.approx(3 * 8551 / 32)
    assert full.training == 9 * amounts().train.forward(BERT_BASE)
    masked = cost["retrained", "magnitude", "bad"]
    assert masked.training == full.training
    removed = cost["retrained", "structured", "bad"]
    assert removed.training == pytest.approx(KEPT * full.training)
    assert removed.steps == full.steps > removed.weight_steps
    assert cost["longer", "structured", "bad"].training == 2 * removed.training
    assert cost["pruned", "structured", "bad"].training == 0
    assert cost["search", "iterative", ""].training == 2 * full.training


def test_costs_add_up():
    assert sum([Work(1, 2, 3, 4), Work(10, 20, 30, 40)], Work()) == Work(11, 22, 33, 44)
    assert Work(1, 2).flop == 3


def test_the_whole_paper_is_what_the_arithmetic_of_its_appendix_says():
    """1.6 EFLOP for BERT-base on nine tasks and five seeds, of which 260 PFLOP are fine-tuning."""
    from lotterylib.runs.lengths import sample_lengths

    total = fine = 0.0
    for name in ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"):
        settings = parse_settings(name, budget="full")
        rows = settings.task.sizes
        train, dev = (
            split_of(sample_lengths(name, split, 4000), size)
            for split, size in zip(("train", "validation"), rows, strict=True)
        )
        much = Amounts(train, dev, BERT_BASE, 3, 32)
        pages = ("01_finetune", "04_subnetworks")
        total += sum(work_of(cell, much).flop for cell in cells_of(settings, pages))
        fine += 5 * work_of(Cell("finetune", 0), much).training
    assert fine == pytest.approx(260e15, rel=0.05)
    assert total == pytest.approx(1636e15, rel=0.1)
