from __future__ import annotations

import pytest

from merlin_images.environments.errors import LockInvalid, RequirementHasNoWheel
from merlin_images.environments.model import Target
from merlin_images.environments.pylock import read_pylock, with_sizes

TARGET = Target("x86_64-manylinux_2_28", "3.11")
SHA = "a" * 64


def package(*wheels: str, name: str = "demo", key: str = "wheels", size: str = "size = 7, ") -> str:
    entries = [
        f'{{ url = "https://host.example/{wheel}", {size}hashes = {{ sha256 = "{SHA}" }} }}'
        for wheel in wheels
    ]
    value = f"[{', '.join(entries)}]" if key == "wheels" else entries[0]
    return f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{key} = {value}\n'


def test_wheels_come_sorted_by_name() -> None:
    text = package("b-1.0-py3-none-any.whl", name="b") + package("a-1.0-py3-none-any.whl", name="a")
    first, second = read_pylock(text, TARGET)
    assert (first.name, second.name) == ("a", "b")
    assert (first.version, first.filename, first.size) == ("1.0", "a-1.0-py3-none-any.whl", 7)


def test_of_several_wheels_the_target_gets_the_best() -> None:
    names = [
        "demo-1.0-py3-none-any.whl",
        "demo-1.0-cp311-cp311-manylinux_2_34_x86_64.whl",
        "demo-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "demo-1.0-cp38-abi3-manylinux_2_28_x86_64.whl",
        "demo-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    ]
    (wheel,) = read_pylock(package(*names), TARGET)
    assert wheel.filename == names[2]
    (wheel,) = read_pylock(package(*names), Target("x86_64-manylinux_2_34", "3.11"))
    assert wheel.filename == names[1]
    (wheel,) = read_pylock(package(*names), Target("x86_64-manylinux_2_28", "3.13"))
    assert wheel.filename == names[3]
    (wheel,) = read_pylock(package(*names), Target("x86_64-manylinux2014", "3.9"))
    assert wheel.filename == names[0]


def test_none_of_several_fits() -> None:
    text = package("demo-1.0-cp310-cp310-win_amd64.whl", "demo-1.0-cp310-cp310-win32.whl")
    with pytest.raises(LockInvalid, match="demo fits x86_64-manylinux_2_28"):
        read_pylock(text, TARGET)


def test_what_is_no_wheel_is_refused() -> None:
    for text in (
        package("demo-1.0.tar.gz", key="archive"),
        package("other-1.0-py3-none-any.whl"),
        '[[packages]]\nname = "demo"\nvcs = { type = "git" }\n',
    ):
        with pytest.raises(RequirementHasNoWheel, match="demo"):
            read_pylock(text, TARGET)


def test_sizes_are_written_down_once() -> None:
    text = package("demo-1.0-py3-none-any.whl", key="archive", size="")
    with pytest.raises(LockInvalid, match="no sha256 or size"):
        read_pylock(text, TARGET)
    complete = with_sizes(text, {"https://host.example/demo-1.0-py3-none-any.whl": 42}.__getitem__)
    assert read_pylock(complete, TARGET)[0].size == 42
    assert with_sizes(complete, {}.__getitem__) == complete


@pytest.mark.parametrize("text", ["packages = 7", "packages = [7]", "= nonsense"])
def test_no_lock_at_all(text: str) -> None:
    with pytest.raises(LockInvalid):
        read_pylock(text, TARGET)


def test_a_lock_is_read_once_for_each_target() -> None:
    text = package("read_once-1.0-py3-none-any.whl", name="read-once")
    before = read_pylock.cache_info().misses
    first = read_pylock(text, TARGET)
    assert read_pylock(str(text.encode(), "utf-8"), Target(TARGET.platform, TARGET.python)) is first
    assert read_pylock(text, Target(TARGET.platform, "3.12")) == first
    assert read_pylock.cache_info().misses == before + 2
