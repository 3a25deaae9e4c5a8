"""Vocabulary surgery: kept rows first, compound rows after them, on any axis."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.checkpoints import select_tokens

TABLE = np.arange(24, dtype=np.float32).reshape(6, 4)


def test_nothing_to_do_returns_the_array_itself():
    assert select_tokens(TABLE) is TABLE


def test_kept_rows_come_in_the_given_order():
    np.testing.assert_array_equal(select_tokens(TABLE, [5, 0, 5]), TABLE[[5, 0, 5]])


def test_compound_ids_refer_to_the_table_after_keeping():
    out = select_tokens(TABLE, [4, 2], [[0, 1], ([0, 1], [1.0, 3.0]), [1]])
    expected = [
        TABLE[4],
        TABLE[2],
        (TABLE[4] + TABLE[2]) / 2,
        (TABLE[4] + 3 * TABLE[2]) / 4,
        TABLE[2],
    ]
    np.testing.assert_array_equal(out, np.stack(expected))
    assert out.dtype == np.float32


def test_one_axis_and_last_axis():
    bias = np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(select_tokens(bias, [2, 0], [[0, 1]]), [4.0, 1.0, 2.5])
    kernel = TABLE.T
    out = select_tokens(kernel, [3, 1], [[0, 1]], axis=1)
    np.testing.assert_array_equal(out, select_tokens(TABLE, [3, 1], [[0, 1]]).T)


def test_a_pair_of_ids_is_ids_not_ids_and_weights():
    np.testing.assert_array_equal(
        select_tokens(TABLE, None, [(1, 3)])[6], (TABLE[1] + TABLE[3]) / 2
    )


def test_half_precision_is_averaged_in_double():
    half = np.array([[1.0], [1.0078125], [1.0]], ml_dtypes.bfloat16)
    out = select_tokens(half, None, [[0, 1, 2, 0]])
    assert out.dtype == half.dtype
    assert float(out[3, 0]) == float(np.asarray(1.001953125).astype(ml_dtypes.bfloat16))


@given(st.data())
def test_selection_equals_a_loop(data):
    size = data.draw(st.integers(1, 8))
    table = np.arange(size * 3, dtype=np.float64).reshape(size, 3)
    keep = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8))
    compound = data.draw(
        st.lists(st.lists(st.integers(0, len(keep) - 1), min_size=1, max_size=4), max_size=3)
    )
    rows = [table[i] for i in keep]
    rows += [sum(rows[i] for i in ids) / len(ids) for ids in compound]
    np.testing.assert_allclose(select_tokens(table, keep, compound), np.stack(rows), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([6],), "outside the table of 6 tokens: \\[6\\]"),
        (([-1],), "outside"),
        (([1.5],), "integer ids"),
        (([0, 1], [[2]]), "compound_tokens\\[0\\] holds ids outside the table of 2"),
        ((None, [[]]), "at least one id"),
        ((None, [([0, 1], [1.0])]), "equal length"),
        ((None, [([0, 1], [1.0, -1.0])]), "sum other than 0"),
        ((None, None, 2), "axis"),
    ],
)
def test_wrong_ids_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        select_tokens(TABLE, *arguments)
