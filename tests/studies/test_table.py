"""Tables of true accuracies, written here: every architecture with an accuracy that its operations give."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from setn_lab.space import nasbench201
from setn_lab.studies.groundtruth import table
from setn_lab.studies.groundtruth.table import TableError

SPACE = nasbench201.NASBench201Space()


def rows():
    every = nasbench201.every()
    return pd.DataFrame(
        {
            "arch": [SPACE.write(SPACE.genotype(one)) for one in every],
            "cifar10_test_200ep": 50 + 5 * (every == 3).sum(1) + 0.001 * np.arange(len(every)) / 16,
            "other": 10.0,
        }
    )


@pytest.fixture(scope="module")
def frame():
    return rows()


@pytest.fixture(scope="module")
def path(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("truth") / "table.csv"
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)  # in any order
    return path


def test_every_architecture_has_its_accuracy_and_rank(frame, path):
    found = table.load_table(path)
    drawn = SPACE.sample(np.random.default_rng(0), 50, 1)[:, 0]
    by_text = dict(zip(frame["arch"], frame["cifar10_test_200ep"], strict=True))
    expected = [by_text[SPACE.write(SPACE.genotype(one))] for one in drawn]
    np.testing.assert_allclose(found.of(drawn), expected)
    ranks = [1 + (frame["cifar10_test_200ep"] > value).sum() for value in found.of(drawn)]
    np.testing.assert_array_equal(found.rank(drawn), ranks)
    assert table.load_table(path, "other").rank(drawn).tolist() == [1] * 50  # equal ones share the better rank


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[:-1], "15624 architectures; the space has 15625"),
        (lambda frame: pd.concat([frame.iloc[:-1], frame.iloc[:1]]), "architecture 15625: ... occurs twice"),
        (
            lambda frame: frame.rename(columns={"arch": "cell"}),
            "the columns 'arch' and 'cifar10_test_200ep' are needed",
        ),
        (lambda frame: frame.assign(cifar10_test_200ep=101.0), "architecture 1: cifar10_test_200ep is 101.0; percent"),
        (lambda frame: frame.assign(cifar10_test_200ep=np.nan), "architecture 1: cifar10_test_200ep is nan; percent"),
        (lambda frame: frame.assign(cifar10_test_200ep="good"), "architecture 1: could not convert"),
        (lambda frame: frame.assign(arch="|none~0|"), "architecture 1: '|none~0|' given; the form"),
    ],
    ids=["too few", "twice", "no column", "above 100", "none", "text", "another form"],
)
def test_a_wrong_table_is_refused(frame, tmp_path, change, message):
    path = tmp_path / "table.csv"
    change(frame).to_csv(path, index=False)
    with pytest.raises(TableError) as caught:
        table.load_table(path)
    assert str(caught.value).startswith(str(path))
    for part in message.split("..."):
        assert part in str(caught.value)


def test_a_file_that_is_none_or_no_table_is_refused(tmp_path):
    with pytest.raises(TableError, match="cannot be read: No such file"):
        table.load_table(tmp_path / "table.csv")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    with pytest.raises(TableError, match="is no CSV file"):
        table.load_table(tmp_path / "empty.csv")


class Api:
    """What is asked of nats_bench's API."""

    def __init__(self, frame):
        self.frame = frame

    def __len__(self):
        return len(self.frame)

    def arch(self, index):
        return self.frame["arch"][index]

    def get_more_info(self, index, dataset, hp, is_random):
        assert (dataset, hp, is_random) == ("cifar10", "200", False)
        return {"test-accuracy": self.frame["cifar10_test_200ep"][index], "train-loss": 0.0}


def test_the_api_gives_the_same(frame, path, tmp_path, monkeypatch):
    def create(path, space, fast_mode, verbose):
        assert (path, space, fast_mode, verbose) == (str(tmp_path), "tss", True, False)
        return Api(frame)

    monkeypatch.setitem(sys.modules, "nats_bench", SimpleNamespace(create=create))
    found = table.load_table(tmp_path)
    assert found.column == table.DEFAULT_COLUMN
    np.testing.assert_allclose(found.accuracy, table.load_table(path).accuracy)
    with pytest.raises(TableError, match="'accuracy' given"):
        table.load_table(tmp_path, "accuracy")


def test_without_the_api_a_csv_file_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(TableError, match="package nats_bench, which is not installed: give a CSV file"):
        table.load_table(tmp_path)


def test_shares_are_not_percent(frame, tmp_path):
    path = tmp_path / "shares.csv"
    frame.assign(cifar10_test_200ep=frame["cifar10_test_200ep"] / 100).to_csv(path, index=False)
    with pytest.raises(TableError, match="percent from 0 to 100 are needed, not shares"):
        table.load_table(path)


def test_validation_and_test_of_the_same_networks(frame, tmp_path):
    """Of the column's data set, of the most epochs that both have; the rows in any order."""
    rng = np.random.default_rng(3)
    names = [f"cifar10_{split}_{epochs}ep" for epochs in (12, 40, 90) for split in ("valid", "test")][:-1]
    more = frame.assign(**{name: rng.uniform(20, 90, len(frame)) for name in [*names, "cifar100_valid_200ep"]})
    more.sample(frac=1, random_state=1).to_csv(tmp_path / "more.csv", index=False)
    found = table.load_table(tmp_path / "more.csv")
    places = nasbench201.number(np.array([SPACE.read(text).array for text in more["arch"]]))
    np.testing.assert_allclose(found.validation[places], more["cifar10_valid_40ep"])
    np.testing.assert_allclose(found.tested[places], more["cifar10_test_40ep"])
    frame.to_csv(tmp_path / "none.csv", index=False)
    assert table.load_table(tmp_path / "none.csv").validation is None
