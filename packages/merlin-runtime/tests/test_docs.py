"""What the server says of its model: signature, metadata, OpenAPI, and the page with the form."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import joblib
import pandas as pd
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sklearn.linear_model import LogisticRegression

from merlin_runtime.models.signature import Signature, Value, signature_of
from merlin_runtime.serving.docs_form import docs_page
from merlin_runtime.serving.openapi import openapi_document, request_schema
from merlin_runtime.serving.v2_metadata import model_metadata

PYFUNC = SimpleNamespace(kind="pyfunc")
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{}}&amp;"

# As MLflow 3.17 writes them.
COLUMNS = """\
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "a", "required": true}, {"type": "string",
    "name": "b", "required": false}, {"type": "long", "name": "n", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
"""
TENSOR = """\
saved_input_example_info:
  artifact_path: input_example.json
  serving_input_path: serving_input_example.json
  type: ndarray
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]'
  outputs: null
  params: null
"""
OBJECT = """\
saved_input_example_info:
  artifact_path: input_example.json
  serving_input_path: serving_input_example.json
  type: json_object
signature:
  inputs: '[{"type": "string", "name": "prompt", "required": true}, {"type": "array",
    "items": {"type": "double"}, "name": "k", "required": true}]'
  outputs: '[{"type": "array", "items": {"type": "double"}, "name": "out", "required":
    true}]'
  params: null
"""


@pytest.fixture
def logged(tmp_path):
    def log(text, example=None):
        (tmp_path / "MLmodel").write_text(text)
        if example is not None:
            (tmp_path / "input_example.json").write_text(json.dumps(example))
        return signature_of(tmp_path, PYFUNC)

    return log


def test_columns_with_a_logged_table(logged):
    signature = logged(COLUMNS, {"columns": ["a", "b", "n"], "data": [[1.0, "x", 1]]})
    assert signature.of_rows
    assert [(one.name, one.datatype) for one in signature.inputs] == [
        ("a", "FP64"), ("b", "BYTES"), ("n", "INT64"),
    ]  # fmt: skip
    assert signature.outputs == [Value("predictions", "INT64", "integer", (-1,))]
    assert signature.example == {"instances": [{"a": 1.0, "b": "x", "n": 1}]}
    schema = Draft202012Validator(request_schema(signature))
    assert schema.is_valid(signature.example)
    assert schema.is_valid(
        {"instances": [[1, "x", 2], {"a": 1, "n": 2}, {"a": 1, "n": 2, "b": None}]}
    )
    for bad in (
        {},
        {"instances": [{"a": 1}]},
        {"instances": [[1]]},
        {"instances": [{"a": "x", "n": 1}]},
    ):
        assert not schema.is_valid(bad), bad


def test_a_logged_array(logged):
    signature = logged(TENSOR, [[1, 2, 3, 4]])
    assert signature.inputs == [Value("instances", "FP64", "number", (-1, 4))]
    assert signature.example == {"instances": [[1, 2, 3, 4]]}
    schema = Draft202012Validator(request_schema(signature))
    assert schema.is_valid(signature.example)
    assert not schema.is_valid({"instances": [[1, 2, 3]]})


def test_no_example_is_made_up_of_a_huge_tensor(logged):
    huge = TENSOR.replace("[-1, 4]", "[-1, 1000, 1000, 1000]")
    signature = logged(huge)
    assert signature.inputs[0].shape == (-1, 1000, 1000, 1000)
    assert signature.example is None


def test_a_logged_object_is_the_body_itself(logged):
    signature = logged(OBJECT, {"prompt": "hi", "k": [3]})
    assert not signature.of_rows
    assert signature.example == {"prompt": "hi", "k": [3]}
    schema = Draft202012Validator(request_schema(signature))
    assert schema.is_valid(signature.example)
    assert not schema.is_valid({"prompt": 1, "k": []})
    assert model_metadata("m", "1", PYFUNC, signature)["outputs"] == [
        {"name": "out", "datatype": "FP64", "shape": [-1]}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "signature:\n  inputs: nonsense\n",
        "signature:\n  inputs: '[1]'\n",
        'signature:\n  inputs: \'[{"type": "tensor"}]\'\n',
        "signature:\n  - a\n",
        "saved_input_example_info:\n  artifact_path: ../../../../etc/passwd\n",
    ],
)
def test_a_bad_signature_is_not_known_and_stops_nothing(logged, text, caplog):
    assert logged(text) == Signature(of_rows=False)


def test_an_example_outside_the_folder_is_not_read(logged, tmp_path):
    (tmp_path.parent / "secret.json").write_text('"secret"')
    text = "saved_input_example_info:\n  type: json_object\n  artifact_path: ../secret.json\n"
    assert logged(text).example is None


ROWS = st.dictionaries(st.text() | st.just(HOSTILE), st.text() | st.floats(allow_nan=False))
SIGNATURES = st.builds(
    Signature,
    of_rows=st.booleans(),
    inputs=st.lists(
        st.builds(
            Value,
            name=st.text() | st.just(HOSTILE),
            datatype=st.just("FP64"),
            json_type=st.sampled_from(["", "number", "string"]),
            shape=st.sampled_from([(-1,), (-1, 4), ()]),
        ),
        max_size=4,
    ),
    example=st.none() | ROWS | st.builds(lambda row: {"instances": [row]}, ROWS),
)


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))


@settings(deadline=None, max_examples=50)
@given(signature=SIGNATURES, name=st.text(min_size=1) | st.just(HOSTILE))
def test_no_name_becomes_markup(signature, name):
    tags = _Tags()
    tags.feed(docs_page(name, "pyfunc", signature))
    assert [attributes for tag, attributes in tags.seen if tag == "script"] == [
        {"src": "docs/form.js", "defer": None}
    ]
    known = {
        "html", "head", "meta", "title", "link", "script", "body", "header", "h1", "h2", "p", "a",
        "code", "span", "main", "section", "form", "div", "label", "input", "textarea", "button",
        "pre", "table", "thead", "tr", "th", "td",
    }  # fmt: skip
    assert {tag for tag, _ in tags.seen} <= known
    assert not any(key.startswith("on") for _, attributes in tags.seen for key in attributes)


@settings(deadline=None, max_examples=50)
@given(signature=SIGNATURES, name=st.text(min_size=1))
def test_the_document_is_openapi(signature, name):
    document = json.loads(json.dumps(openapi_document(name, "1", signature)))
    schemathesis.openapi.from_dict(document).validate()
    Draft202012Validator.check_schema(request_schema(signature))


def test_an_estimators_own_columns(start_server, tmp_path):
    names = ["sepal", HOSTILE]
    frame = pd.DataFrame([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], columns=names)
    joblib.dump(LogisticRegression().fit(frame, [0, 1, 1]), tmp_path / "model.joblib")
    server = start_server(tmp_path).wait_ready()
    get = server.client.get
    document = get("/openapi.json").json()
    body = document["paths"]["/v1/models/iris-1:predict"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert example == {"instances": [{"sepal": 0, HOSTILE: 0}]}
    assert len(server.predict(example).json()["predictions"]) == 1
    inputs = get("/v2/models/iris-1").json()["inputs"]
    assert inputs == [{"name": name, "datatype": "FP64", "shape": [-1]} for name in names]
    page = get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "<img" not in page.text
    # Nothing is loaded from elsewhere.
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page.text)
    assert get("/docs/form.js").headers["content-type"].startswith("text/javascript")
    assert get("/docs/style.css").headers["content-type"].startswith("text/css")
    for path in ("/docs/other", "/docs/..%2fdocs_form.py"):
        assert get(path).status_code == 404


def test_metadata_of_a_model_of_so_many_features(iris_server):
    metadata = iris_server.client.get("/v2/models/iris-1").json()
    assert metadata["inputs"] == [{"name": "instances", "datatype": "FP64", "shape": [-1, 4]}]
    assert metadata["outputs"][0]["name"] == "predictions"
