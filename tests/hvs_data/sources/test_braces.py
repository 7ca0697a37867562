"""Patterns with braces: what a shell makes of them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvs_data.errors import SourceError
from hvs_data.sources import braces
from hvs_data.sources.braces import expand_braces


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("", [""]),
        ("t-{0..3}", ["t-0", "t-1", "t-2", "t-3"]),
        ("t-{08..11}", ["t-08", "t-09", "t-10", "t-11"]),
        ("t-{8..011}", ["t-008", "t-009", "t-010", "t-011"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{-01..1}", ["-01", "000", "001"]),
        ("{0..10..4}", ["0", "4", "8"]),
        ("{10..0..-5}", ["10", "5", "0"]),
        ("{1..2..0}", ["1", "2"]),
        ("{a..c}{1,2}", ["a1", "a2", "b1", "b2", "c1", "c2"]),
        ("{x,y,}.tar", ["x.tar", "y.tar", ".tar"]),
        ("{a{1..2},b}/{c,d}", ["a1/c", "a1/d", "a2/c", "a2/d", "b/c", "b/d"]),
        ("{train-{0..1},val}.tar", ["train-0.tar", "train-1.tar", "val.tar"]),
        ("{abc}", ["{abc}"]),
        ("{{1,2}}", ["{1}", "{2}"]),
        ("{}{1,2}", ["{}1", "{}2"]),
        ("a{1,2", ["a{1,2"]),
        ("a}{1,2}", ["a}1", "a}2"]),
        ("{1..b}", ["{1..b}"]),
        ("{1..2", ["{1..2"]),
        ("{{1,2}", ["{1", "{2"]),
    ],
)
def test_a_pattern_stands_for_paths(pattern: str, paths: list[str]) -> None:
    assert expand_braces(pattern) == paths


@given(st.text("ab{},.019-", max_size=12))
def test_any_text_is_a_pattern(pattern: str) -> None:
    assert expand_braces(pattern)


@given(
    st.recursive(
        st.sampled_from(["a", "7", "{1..3}", "{09..11}", "{c..a}"]),
        lambda parts: st.lists(parts, min_size=2, max_size=3).map(lambda texts: "{" + ",".join(texts) + "}"),
        max_leaves=5,
    ).flatmap(lambda first: st.sampled_from([first, f"x{first}", f"{first}-{first}"]))
)
def test_well_formed_patterns_expand_as_in_bash(pattern: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash to compare with")
    # made of letters, digits, braces, commas and dots only: nothing that a shell would act on
    done = subprocess.run([bash, "-c", f"echo {pattern}"], capture_output=True, text=True, check=True)
    assert " ".join(expand_braces(pattern)) == done.stdout.strip()


def test_a_slip_is_told_and_not_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="at most 1000000 paths, got more from"):
        expand_braces("{0..99999999999999999}.tar")
    monkeypatch.setattr(braces, "MAX_PATHS", 8)
    assert len(expand_braces("{1..2}{1..4}")) == 8
    with pytest.raises(SourceError, match="at most 8 paths"):
        expand_braces("{1..3}{1..3}")
