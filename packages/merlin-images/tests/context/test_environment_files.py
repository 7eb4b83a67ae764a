"""Whatever a user's environment file holds: it is refused, or written as lines that say no more."""

from __future__ import annotations

import tomllib

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from merlin.artifacts.memory import MemoryStore
from merlin.errors import MerlinError
from merlin_images.context.environment_files import environment_files, read_specification
from merlin_images.environments.requirement_lines import name_of

# Text of the sort that would get out of a line, a list or a quoted string.
_BREAKOUTS = [
    "\n",
    "\r",
    "\x85",
    "\u2028",
    '"',
    "'",
    "\\",
    "#",
    "]",
    "${X}",
    "`id`",
    " --pre ",
    "; ",
]
_TEXT = st.one_of(
    st.text(max_size=20),
    st.lists(st.sampled_from([*_BREAKOUTS, "x", "1", " ", "="]), max_size=8).map("".join),
)
_REQUIREMENTS = st.one_of(
    _TEXT,
    _TEXT.map(lambda text: f"numpy=={text}"),
    _TEXT.map(lambda text: f'numpy; extra == "{text}"'),
    _TEXT.map(lambda text: f"numpy @ https://x.example/{text}/numpy-1-py3-none-any.whl"),
    _TEXT.map(lambda text: f"--index-url=https://x.example/{text}"),
    _TEXT.map(lambda text: f"--find-links https://x.example/{text}"),
    st.sampled_from(["pandas==2.2", "Merlin_SDK==1", "--pre", "torch[x]>=2,<3"]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=st.lists(_REQUIREMENTS, max_size=5))
def test_no_text_gets_out_of_its_line(lines: list[str]) -> None:
    store = MemoryStore()
    document = {"dependencies": ["python=3.11", {"pip": lines}]}
    store.write("conda.yaml", [yaml.safe_dump(document, allow_unicode=False).encode()])
    try:
        spec = read_specification(store, "", model_type="pyfunc", python="3.11")
        files = environment_files(spec, ["starlette>=0.37"])
    except MerlinError:
        return
    written = files["requirements.txt"].decode().splitlines()
    assert written == sorted({*spec.requirements, "starlette>=0.37"})
    for line in written:
        Requirement(line)
        assert name_of(line) != "merlin-sdk"
    conda = yaml.safe_load(files["conda.yaml"])
    assert conda["dependencies"] == ["python=3.11", "pip", {"pip": written}]
    assert set(tomllib.loads(files["uv.toml"].decode())) <= {
        *("index-url", "extra-index-url", "find-links", "prerelease"),
    }
    assert _values(files["uv.toml"]) == sorted(
        option.partition("=")[2] for option in spec.index_options
    )
    assert files[".python-version"] == b"3.11\n"


def _values(settings: bytes) -> list[str]:
    values = tomllib.loads(settings.decode()).values()
    return sorted(
        text for value in values for text in (value if isinstance(value, list) else [value])
    )
