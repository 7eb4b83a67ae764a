from __future__ import annotations

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin_images.environments.errors import (
    CondaPackagesRefused,
    EnvironmentInvalid,
    EnvironmentMissing,
    RequirementRefused,
)
from merlin_images.environments.files import read_environment
from merlin_images.environments.model import EnvironmentSpec

CONDA = """\
name: merlin
channels: [conda-forge]
dependencies:
  - python=3.10
  - pip<=23.1
  - pip:
      - Pandas == 2.3.3   # frames
      - merlin-sdk>=0.40
      - merlin_pyfunc_server<0.49.0
"""


def read(files: dict[str, str | bytes], model_type: str = "pyfunc") -> EnvironmentSpec:
    store = MemoryStore()
    for name, content in files.items():
        body = content.encode() if isinstance(content, str) else content
        store.write(f"1/abc/artifacts/model/{name}", [body])
    return read_environment(store, "1/abc/artifacts/model", model_type=model_type, python="3.11")


def test_conda_yaml() -> None:
    spec = read({"conda.yaml": CONDA, "requirements.txt": "never-read"})
    assert spec.python == "3.10"
    assert spec.requirements == ("cloudpickle", "pandas==2.3.3")
    assert spec.notes == (
        "Left out merlin-pyfunc-server, merlin-sdk: the image brings Merlin's own runtime.",
        "Added cloudpickle: the model type needs it.",
    )


def test_python_env_yaml_with_a_file_of_requirements() -> None:
    spec = read(
        {
            "python_env.yaml": "python: 3.12.4\nbuild_dependencies: [pip==23]\n"
            "dependencies: [-r requirements.txt, six]\n",
            "requirements.txt": "cloudpickle==3.1.1\n",
        }
    )
    assert spec == EnvironmentSpec("3.12", ("cloudpickle==3.1.1", "six"))


def test_requirements_txt_and_the_python_of_mlmodel() -> None:
    mlmodel = "flavors:\n  python_function:\n    python_version: 3.9.18\n"
    spec = read({"requirements.txt": "cloudpickle", "MLmodel": mlmodel})
    assert (spec.python, spec.requirements) == ("3.9", ("cloudpickle",))


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("python=3.10.*", "3.10"),
        ("python==3.9.1", "3.9"),
        ("python = 3.12", "3.12"),
        ("conda-forge::python=3.13.1=h955ad1f_0", "3.13"),
        ("python>=3.9,<3.13", "3.11"),
        ("python", "3.11"),
    ],
)
def test_pythons_of_conda(text: str, python: str) -> None:
    assert read({"conda.yaml": f"dependencies: [{text!r}]"}).python == python


def test_files_may_name_files_of_the_folder() -> None:
    spec = read(
        {
            "requirements.txt": "-r more/base.txt\n--constraint=limits.txt\n",
            "more/base.txt": "-r other.txt\n-r base.txt\nflask\n",
            "more/other.txt": "click",
            "limits.txt": "numpy<2\n",
        }
    )
    assert spec.requirements == ("click", "cloudpickle", "flask")
    assert spec.constraints == ("numpy<2",)


def test_a_standard_type_needs_no_file() -> None:
    spec = read({"model.bst": b"..."}, "xgboost")
    assert spec.requirements == ("xgboost",)
    assert spec.notes == ("Added xgboost: there is no environment file.",)


@pytest.mark.parametrize("model_type", ["pyfunc", "pyfunc_v2", "custom", "what?"])
def test_other_types_cannot_be_guessed(model_type: str) -> None:
    with pytest.raises(EnvironmentMissing, match="no environment file") as caught:
        read({"python_model.pkl": b"", "MLmodel": ""}, model_type)
    assert "conda.yaml" in caught.value.hint


def test_the_example_in_the_hint_is_right() -> None:
    with pytest.raises(EnvironmentMissing) as caught:
        read({})
    example = caught.value.hint.split("'")[1]
    spec = read({"conda.yaml": example})
    assert (spec.python, spec.requirements) == ("3.11", ("cloudpickle", "pandas==2.3.3"))


def test_conda_packages_are_refused_by_name() -> None:
    with pytest.raises(CondaPackagesRefused) as caught:
        read({"conda.yaml": "dependencies:\n- python=3.11\n- wheel\n- cudatoolkit=11\n- gdal\n"})
    assert "conda.yaml, line 4" in str(caught.value)
    assert caught.value.data["packages"] == ["cudatoolkit=11", "gdal"]


def test_each_conda_package_is_answered_with_what_to_do() -> None:
    conda = """
        channels: [conda-forge]
        dependencies:
        - python=3.11
        - conda-forge::pytorch=2.5
        - numpy==1.26.4=py311h64a7726_0
        - scikit-learn>=1.5, <1.8
        - py-opencv 4.10.*
        - graphviz
        - openjdk=17
        - mkl
        - r-base=4.3
        - pip: [pandas]
    """
    with pytest.raises(CondaPackagesRefused) as caught:
        read({"conda.yaml": conda})
    data, hint = caught.value.data, caught.value.hint
    assert data["line"] == 5
    assert data["pypi"] == {
        "conda-forge::pytorch=2.5": "torch==2.5.*",
        "numpy==1.26.4=py311h64a7726_0": "numpy==1.26.4",
        "scikit-learn>=1.5, <1.8": "scikit-learn<1.8,>=1.5",
        "py-opencv 4.10.*": "opencv-python-headless",
    }
    assert data["debian"] == {"graphviz": "graphviz", "openjdk=17": "default-jre-headless"}
    assert (data["needless"], data["conda_only"]) == (["mkl"], ["r-base=4.3"])
    for said in ("torch==2.5.*, numpy==1.26.4", "packages.txt", "Leave out mkl", "Kaniko"):
        assert said in hint
    assert "graphviz==" not in hint


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("conda.yaml", "name: x\ndependencies: [\n  a: b: c\n", 3),
        ("conda.yaml", "name: x\ndependencies: 7\n", 2),
        ("conda.yaml", "- a\n", 1),
        ("conda.yaml", "dependencies:\n- pip:\n  - [x]\n", 3),
        ("conda.yaml", "dependencies:\n- npm: [x]\n", 2),
        ("conda.yaml", "dependencies:\n- python=banana\n", 2),
        ("conda.yaml", "dependencies:\n- python>3.12\n", 2),
        ("conda.yaml", "a: &a [*a]\nb: *nowhere\n", 2),
        ("conda.yaml", "[" * 5000, 1),
        ("conda.yaml", "dependencies:\n- pip:\n  - flask\n  - foo bar\n", 4),
        ("requirements.txt", "flask\n\nfoo bar\n", 3),
        ("requirements.txt", "flask\n-r gone.txt\n", 2),
        ("python_env.yaml", "python: {a: 1}\n", 1),
        ("MLmodel", "flavors:\n  python_function: []\n", 2),
    ],
)
def test_malformed_files_are_named_by_line(name: str, text: str, line: int) -> None:
    files = {"requirements.txt": "x", name: text}
    with pytest.raises(EnvironmentInvalid) as caught:
        read(dict(files))
    assert (caught.value.data["file"], caught.value.data["line"]) == (name, line)
    assert name in caught.value.message


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(EnvironmentInvalid, match=r"requirements.txt, line 2: not UTF-8"):
        read({"requirements.txt": b"flask\n\xff\xfe\n"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_windows_writes(encoding: str) -> None:
    text = "pandas==2.3.3\r\nsix \\\r\n  ==1.17.0\r\n"
    spec = read({"requirements.txt": text.encode(encoding)})
    assert spec.requirements == ("cloudpickle", "pandas==2.3.3", "six==1.17.0")


def test_a_name_that_only_looks_like_a_way_out() -> None:
    spec = read({"requirements.txt": "-r ..more.txt", "..more.txt": "six"})
    assert spec.requirements == ("cloudpickle", "six")


def test_a_file_without_end() -> None:
    with pytest.raises(EnvironmentInvalid, match="larger than 1 MiB"):
        read({"requirements.txt": b"#" * (2**20 + 1)})


def test_yaml_is_never_executed(tmp_path: object) -> None:
    text = f"dependencies:\n- !!python/object/apply:os.mkdir ['{tmp_path}/made']\n"
    with pytest.raises(EnvironmentInvalid, match="line 2: plain text should stand here"):
        read({"conda.yaml": text})


@pytest.mark.parametrize(
    "path",
    ["../secret.txt", "a/../../etc/passwd", "/etc/passwd", "https://example.com/r.txt", "..", ""],
)
def test_no_file_outside_the_folder(path: str) -> None:
    with pytest.raises(RequirementRefused, match=r"requirements.txt, line 1: .* lies outside"):
        read({"requirements.txt": f"-r {path}"})


def test_a_variant_of_what_the_type_needs_suffices() -> None:
    store = MemoryStore()
    store.write("requirements.txt", [b"xgboost-cpu==3.0.0"])
    spec = read_environment(store, "", model_type="xgboost", python="3.11")
    assert spec.requirements == ("xgboost-cpu==3.0.0",)
