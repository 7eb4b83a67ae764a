"""Packages of conda channels: what each of them is called where images can get it.

Images are made from PyPI's wheels and Debian's packages, so nothing of a channel is installed. A
name is only offered where it is the same software: conda's graphviz is the program, PyPI's the
bindings to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from merlin_images.environments.errors import CondaPackagesRefused
from merlin_images.environments.requirement_lines import Place
from merlin_images.environments.yaml_files import Line

_NAME = re.compile(r"(?:[^:\s]+::)?([A-Za-z0-9][\w.-]*)\s*(.*)")
_EXACT = re.compile(r"(={1,2})\s*([\w.!+*]+?)(?:=[\w.*]+)?")

# The same software under the same name, and under another one.
_SAME = frozenset(
    """
    accelerate aiohttp altair attrs bokeh boto3 catboost certifi click cloudpickle cryptography
    cython dask dill duckdb fastai fastapi flask fsspec gensim google-cloud-storage gunicorn
    h5py httpx hyperopt imbalanced-learn interpret ipython jinja2 joblib jsonschema jupyter
    kubernetes lightgbm llvmlite lxml lz4 matplotlib mlflow mlflow-skinny networkx nltk numba
    numexpr numpy onnx onnxruntime openpyxl optuna orjson pandas pillow plotly polars prophet
    protobuf psutil pyarrow pydantic pyodbc pytest python-dateutil python-snappy
    pytorch-lightning pytz pyyaml regex requests s3fs scikit-image scikit-learn scikit-optimize
    scipy seaborn sentence-transformers sentencepiece shap shapely six spacy sqlalchemy
    statsmodels streamlit sympy tensorflow tensorflow-cpu threadpoolctl tokenizers toolz
    torchaudio torchvision tqdm transformers typing-extensions ujson uvicorn xarray xgboost xlrd
    zstandard
    """.split()  # noqa: SIM905 -- a table
)
_OTHER = {
    "dask-core": "dask",
    "huggingface_hub": "huggingface-hub",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless",
    "psycopg2": "psycopg2-binary",
    "py-lightgbm": "lightgbm",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "pyarrow-core": "pyarrow",
    "pytables": "tables",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "python-graphviz": "graphviz",
    "redis-py": "redis",
    "tensorflow-base": "tensorflow",
}
_DEBIAN = {
    "ffmpeg": "ffmpeg",
    "graphviz": "graphviz",
    "libgomp": "libgomp1",
    "libsndfile": "libsndfile1",
    "llvm-openmp": "libgomp1",
    "openjdk": "default-jre-headless",
    "poppler": "poppler-utils",
    "tesseract": "tesseract-ocr",
    "unixodbc": "unixodbc",
}
# Wheels bring these themselves, where they need them.
_BROUGHT = frozenset(
    """
    _libgcc_mutex _openmp_mutex blas ca-certificates cpuonly cudatoolkit cudnn libblas libcblas
    libgcc libgcc-ng libgfortran libgfortran-ng liblapack libopenblas libstdcxx libstdcxx-ng mkl
    mkl-service nomkl openblas openssl pytorch-cuda pytorch-mutex
    """.split()  # noqa: SIM905 -- a table
)


def name_and_version(text: str) -> tuple[str, str]:
    """Split ``channel::name=1.2=build``; the rest is as it stands, without the name."""
    match = _NAME.fullmatch(text)
    return (match[1].lower(), match[2].strip()) if match else (text, "")


def refusal(packages: Sequence[Line]) -> CondaPackagesRefused:
    """Return the error that names every package, and for each of them what to do instead."""
    pypi = {line.text: found for line in packages if (found := _on_pypi(line.text))}
    names = {line.text: name_and_version(line.text)[0] for line in packages}
    debian = {text: _DEBIAN[name] for text, name in names.items() if name in _DEBIAN}
    needless = [text for text, name in names.items() if name in _BROUGHT]
    only = [text for text in names if text not in {*pypi, *debian, *needless}]
    advice = []
    if pypi:
        advice.append(f"Write into the pip list of conda.yaml: {', '.join(pypi.values())}.")
    if debian:
        packages_ = ", ".join(dict.fromkeys(debian.values()))
        advice.append(f"Write into packages.txt beside it: {packages_}.")
    if needless:
        advice.append(f"Leave out {', '.join(needless)}: wheels bring what they need of that.")
    if only:
        advice.append(
            f"For {', '.join(only)} look for a wheel on PyPI or a Debian package; what only conda "
            "has takes a builder that runs a Dockerfile (BuildKit, Kaniko)."
        )
    place: Place = packages[0].place
    listed = ", ".join(line.text for line in packages)
    return CondaPackagesRefused(
        f"{place}: images are made from PyPI's wheels, so these conda packages cannot be "
        f"installed: {listed}.",
        hint=" ".join(advice),
        packages=[line.text for line in packages],
        pypi=pypi,
        debian=debian,
        needless=needless,
        conda_only=only,
        file=place.file,
        line=place.line,
    )


def _on_pypi(text: str) -> str:
    """A conda requirement as PyPI would have it, or nothing."""
    name, version = name_and_version(text)
    found = name if name in _SAME else _OTHER.get(name, "")
    return f"{found}{_specifier(version)}" if found else ""


def _specifier(version: str) -> str:
    """``=1.2`` (any 1.2) and ``==1.2=build`` of conda as pip writes them; nothing if in doubt."""
    if exact := _EXACT.fullmatch(version):
        number = exact[2].removesuffix(".*").removesuffix("*")
        # One = is a prefix in conda, unless all three parts are there and it hardly differs.
        loose = (exact[1] == "=" and number.count(".") < 2) or exact[2].endswith("*")
        text = f"=={number}.*" if loose else f"=={number}"
    else:
        text = version.replace(" ", "")
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        return ""
