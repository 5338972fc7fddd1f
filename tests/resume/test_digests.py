"""Digests change with the content of files, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcgn_mil.resume import digests
from tcgn_mil.resume.digests import digests_of, input_digest, slide_digest


def test_large_files_enter_by_size_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_WHOLE_BYTES", 100)
    monkeypatch.setattr(digests, "_BLOCK_BYTES", 10)
    path = tmp_path / "large"
    data = bytearray(5000)
    path.write_bytes(data)
    first = input_digest(path)
    data[-1] = 1  # the last block is read
    path.write_bytes(data)
    assert input_digest(path) != first
    path.write_bytes(bytes(5001))
    assert input_digest(path) != first
    path.write_bytes(bytes(5000))
    assert input_digest(path) == first


def test_a_slide_enters_by_its_size_its_beginning_its_end_and_blocks_between(
    tmp_path: Path,
) -> None:
    path, size = tmp_path / "S1.svs", 9 * 2**20
    path.write_bytes(bytes(size))
    first = slide_digest([path])
    os.utime(path, (1, 1))
    assert slide_digest([path]) == first
    assert slide_digest([path.rename(tmp_path / "S2.svs")]) == first
    for place in (0, size - 1, (size - 4096) * 7 // 63 + 100):
        data = bytearray(size)
        data[place] = 1
        path.write_bytes(data)
        assert slide_digest([path]) != first
    path.write_bytes(bytes(size - 1))
    assert slide_digest([path]) != first


def test_any_byte_of_a_small_slide_counts(tmp_path: Path) -> None:
    path = tmp_path / "S1.png"
    path.write_bytes(bytes(2**20))
    first = slide_digest([path])
    data = bytearray(2**20)
    data[123_457] = 1
    path.write_bytes(data)
    assert slide_digest([path]) != first


def test_what_is_not_given_has_no_digest_and_hidden_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_text("1")
    inputs = {"folder": tmp_path / "folder", "unused": None}
    before = digests_of(inputs)
    assert set(before) == {"folder"}
    (tmp_path / "folder" / ".lock").touch()
    assert digests_of(inputs) == before
