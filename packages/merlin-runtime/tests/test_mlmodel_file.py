"""The MLmodel reader against the YAML writer that MLflow uses."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merlin_runtime.models.mlmodel_file import parse_mlmodel

WRITTEN_BY_MLFLOW = """\
artifact_path: model
flavors:
  python_function:
    artifacts:
      encoder:
        path: artifacts/encoder.pkl
        uri: '/home/ada/some very long path with spaces that the writer folds over lines
          because it is long/encoder.pkl'
      model_path:
        path: artifacts/model.bst
        uri: s3://bucket/model.bst
    cloudpickle_version: 2.0.0
    code: code
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.pyfunc.model
    python_model: python_model.pkl
    python_version: 3.9.18
mlflow_version: 1.26.1
model_uuid: 3e4f
prompts: null
signature:
  inputs: '[{"type": "double", "name": "it''s"}]'
  outputs: "[\\"x\\", \\
    \\u00e9]"
utc_time_created: '2026-11-01 10:00:00.000000'
tags:
- one
- two: {}
  three: []
- - nested
"""


def test_a_file_as_mlflow_writes_it():
    document = parse_mlmodel(WRITTEN_BY_MLFLOW)
    assert document == yaml.load(WRITTEN_BY_MLFLOW, Loader=yaml.BaseLoader) | {"prompts": None}
    assert document["flavors"]["python_function"]["artifacts"]["encoder"] == {
        "path": "artifacts/encoder.pkl",
        "uri": "/home/ada/some very long path with spaces that the writer folds over lines "
        "because it is long/encoder.pkl",
    }


TEXT = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from("abc \n\t'\"\\:-#{}[],&*!|>%@`?~\u0085\u2028"),
    max_size=120,
)
VALUE = st.recursive(
    st.none() | st.booleans() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(lambda t: len(t) < 60), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(TEXT.filter(lambda t: len(t) < 60), VALUE))
def test_what_the_writer_writes_is_read_back(document):
    text = yaml.safe_dump(document, default_flow_style=False, allow_unicode=True)
    try:
        read = parse_mlmodel(text)
    except ValueError:
        # Keys so odd that the writer needs its "? key" form are refused, not misread.
        assert any(line.lstrip(" -").startswith(("? ", "|", ">")) for line in text.splitlines())
    else:
        assert read == document


@given(st.dictionaries(st.from_regex(r"[\w.-]{1,20}", fullmatch=True), VALUE | TEXT))
def test_any_text_under_an_ordinary_key_is_read_back(artifacts):
    document = {"flavors": {"python_function": {"artifacts": artifacts, "x": "y"}}}
    text = yaml.safe_dump(document, default_flow_style=False)
    try:
        read = parse_mlmodel(text)
    except ValueError:
        assert any(line.lstrip(" -").startswith("? ") for line in text.splitlines())
    else:
        assert read == document


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1, 2]\n", "line 2"),
        ("a: &anchor x\n", "line 1"),
        ("a: |\n  block\n", "line 1"),
        ("a: 'open\n", "line 1"),
        ("a: 1\n  b: 2\n", "line 2"),
        ("a: b\nc\n", "line 2"),
        ("- a\n", "no mapping"),
    ],
)
def test_what_is_not_read_is_refused_by_its_line(text, line):
    with pytest.raises(ValueError, match=line):
        parse_mlmodel(text)


def test_json_is_read():
    assert parse_mlmodel('{"flavors": {"a": 1}}') == {"flavors": {"a": 1}}
    assert parse_mlmodel("") == {}
