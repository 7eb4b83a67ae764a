from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from merlin_images.environments.errors import EnvironmentInvalid, RequirementRefused
from merlin_images.environments.requirement_lines import (
    Place,
    RequirementLines,
    hashes_of,
    name_of,
)

SHA = "a" * 64


def read(text: str) -> RequirementLines:
    lines = RequirementLines({"requirements.txt": text}.get)
    lines.add_file("requirements.txt")
    return lines


CANONICAL = [
    "numpy==2.3.1",
    "scikit-learn<2,>=1.5",
    "mlflow-skinny[databricks,genai]>=3",
    'uvloop>=0.19; platform_python_implementation == "CPython"',
    "zope-interface",
    f"joblib==1.5.2 --hash=sha256:{SHA}",
]


@given(st.permutations(CANONICAL), st.integers())
def test_spelling_and_order_do_not_matter(lines: list[str], seed: int) -> None:
    spelled = random.Random(seed)

    def spell(line: str) -> str:
        head, semicolon, marker = line.partition(";")
        if " --hash" in head:
            space = spelled.choice([" ", " \\\n  ", "\t"])
            head = head.replace(" --hash=", f"{space}--hash{spelled.choice(['=', ' '])}")
        else:
            if spelled.random() < 0.5:
                head = head.upper()
            head = head.replace("-", spelled.choice("-_."))
            for sign in ("==", ",", "["):
                head = head.replace(sign, spelled.choice([sign, f" {sign} "]))
        if spelled.random() < 0.5:
            marker = marker.replace('"', "'").replace(" == ", "==")
        comment = spelled.choice(["", "  # why", "\n# a line of its own", "\n\n", " "])
        return f"{spelled.choice(['', '  '])}{head}{semicolon}{marker}{comment}"

    end = spelled.choice(["\n", "\r\n"])
    assert read(end.join(spell(line) for line in lines)).requirements == set(CANONICAL)


def test_hashes_are_kept() -> None:
    (line,) = read(
        f"Joblib==1.5.2 \\\n  --hash=sha256:{'b' * 64} \\\n  --hash=sha256:{SHA}\n"
    ).requirements
    assert name_of(line) == "joblib"
    assert hashes_of(line) == {SHA, "b" * 64}


def test_index_options_keep_their_order() -> None:
    lines = read(
        "--extra-index-url https://b.example/simple\n-i https://a.example/simple\n"
        "-f https://c.example/wheels\n--pre\n--prefer-binary\n--only-binary=:all:\nflask\n"
    )
    assert lines.index_options == [
        "--prerelease=allow",
        "--index-url=https://a.example/simple",
        "--extra-index-url=https://b.example/simple",
        "--find-links=https://c.example/wheels",
    ]
    assert lines.requirements == {"flask"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("git+https://github.com/a/b.git@main", "version control"),
        ("b @ git+ssh://git@github.com/a/b", "version control"),
        ("git@github.com:a/b.git", "version control"),
        ("-e .", "editable"),
        ("--editable=git+https://github.com/a/b#egg=b", "editable"),
        ("./wheels/b-1.0-py3-none-any.whl", "the machine it was written on"),
        ("../b", "the machine it was written on"),
        ("/home/me/b", "the machine it was written on"),
        ("~/b", "the machine it was written on"),
        ("C:\\wheels\\b.whl", "the machine it was written on"),
        ("b-1.0-py3-none-any.whl", "the machine it was written on"),
        ("numpy @ file:///croot/numpy_1683876/work", "the machine it was written on"),
        ("file:///tmp/b.whl", "the machine it was written on"),
        ("b @ https://example.com/b-1.0.tar.gz", "no wheel"),
        ("b @ https://me:secret@example.com/b-1.0-py3-none-any.whl", "credentials"),
        ("b @ https://example.com/b-1.0-py3-none-any.whl?token=secret", "credentials"),
        ("--index-url https://me:secret@example.com/simple", "credentials"),
        ("--extra-index-url=https://secret@example.com/simple", "credentials"),
        ("-i file:///srv/index", r"http\(s\) address"),
        ("--find-links ./wheels", r"http\(s\) address"),
        ("--trusted-host example.com", "cannot honour"),
        ("--no-binary :all:", "cannot honour"),
    ],
)
def test_what_images_cannot_have_is_refused_by_line(line: str, why: str) -> None:
    with pytest.raises(RequirementRefused, match=why) as caught:
        read(f"flask\n{line}\n")
    assert caught.value.data == {"file": "requirements.txt", "line": 2}
    assert caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line", ["foo bar", "foo==", "==1", "https://example.com/x.whl", "a; b"])
def test_what_is_no_requirement_is_named(line: str) -> None:
    with pytest.raises(EnvironmentInvalid, match=r"requirements.txt, line 2"):
        read(f"flask\n{line}")


def test_a_wheel_of_the_web_may_be_named() -> None:
    url = "https://example.com/b-1.0-py3-none-any.whl"
    (line,) = read(f"B@{url}").requirements
    assert (name_of(line), Requirement(line).url) == ("b", url)


def test_a_wheel_may_be_named_by_its_address_alone() -> None:
    url = f"https://example.com/My_Pkg-1.0-py3-none-any.whl#sha256={SHA}&egg=x"
    (line,) = read(f'{url} ; python_version > "3.8"').requirements
    assert line == (
        "my-pkg @ https://example.com/My_Pkg-1.0-py3-none-any.whl ; "
        f'python_version > "3.8" --hash=sha256:{SHA}'
    )
    assert (name_of(line), hashes_of(line)) == ("my-pkg", {SHA})


def test_variables_stand_for_credentials() -> None:
    lines = read(
        "--extra-index-url https://${CI_USER}:${CI_TOKEN}@Pypi.corp.example:8443/simple\n"
        "-f https://__token__:${TOKEN}@files.corp.example/\n"
        "b @ https://${T}@wheels.example/b-1.0-py3-none-any.whl\n"
    )
    assert lines.index_options == [
        "--extra-index-url=https://pypi.corp.example:8443/simple",
        "--find-links=https://files.corp.example/",
    ]
    assert lines.requirements == {"b @ https://wheels.example/b-1.0-py3-none-any.whl"}
    named = {host: (each.user, each.password) for host, each in lines.credentials.items()}
    assert named == {
        "pypi.corp.example:8443": ("${CI_USER}", "${CI_TOKEN}"),
        "files.corp.example": ("__token__", "${TOKEN}"),
        "wheels.example": ("${T}", ""),
    }
    assert lines.credentials["files.corp.example"].place == "requirements.txt, line 2"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--index-url https://${HOST}/simple", "HOST, and variables are known for credentials"),
        ("flask==${VERSION}", "VERSION, and variables"),
        ("b @ https://x.example/b-1.0-py3-none-any.whl?t=${T}", "T, and variables"),
        ("-i https://${USER}:secret@x.example/simple", "USER, and variables"),
        ("--no-binary flask", "cannot honour"),
    ],
)
def test_variables_stand_for_nothing_else(line: str, why: str) -> None:
    with pytest.raises(RequirementRefused, match=why) as caught:
        read(f"six\n{line}")
    assert "secret" not in str(caught.value.to_dict())


def test_building_is_refused_with_the_way_out() -> None:
    with pytest.raises(RequirementRefused) as caught:
        read("--no-binary :all:")
    assert "pip wheel" in caught.value.hint


def test_files_that_name_each_other_end_somewhere() -> None:
    files = {f"{number}.txt": f"-r {number + 1}.txt" for number in range(2000)}
    lines = RequirementLines(files.get)
    with pytest.raises(EnvironmentInvalid, match=r"31\.txt, line 1: .* more than 32 deep"):
        lines.add_file("0.txt")


@given(st.text(max_size=200))
def test_any_line_is_taken_or_refused(line: str) -> None:
    lines = RequirementLines({}.get)
    try:
        lines.add(line, Place("requirements.txt", 1))
    except (EnvironmentInvalid, RequirementRefused) as error:
        assert "requirements.txt, line 1" in str(error)  # noqa: PT017
    else:
        assert len(lines.requirements) + len(lines.index_options) <= 1
