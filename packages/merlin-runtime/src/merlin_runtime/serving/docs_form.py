"""The page at ``/docs``: what the model takes, and a form to try it.

Names in a signature are whatever the model's author wrote, so everything is escaped, and the
page's policy lets nothing run but the one script file. No address is absolute: it works behind a
gateway's prefix, and without the internet.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import quote

from merlin_runtime.models.signature import Signature, Value

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
FILES = {"form.js": "text/javascript; charset=UTF-8", "style.css": "text/css; charset=UTF-8"}
MAX_FIELDS = 60

_FOLDER = Path(__file__).parent / "docs_page"


def static_file(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


def docs_page(name: str, kind: str, signature: Signature) -> str:
    example = json.dumps(signature.example if signature.example is not None else {}, indent=2)
    predict = f"v1/models/{quote(name, safe='')}:predict"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}</title>
<link rel="stylesheet" href="docs/style.css">
<script src="docs/form.js" defer></script>
</head>
<body>
<header>
<h1>{escape(name)} <span class="tag">{escape(kind)}</span></h1>
<p class="quiet"><code>POST /{escape(predict)}</code> · <a href="openapi.json">OpenAPI</a> ·
<a href="v2/models/{quote(name, safe="")}">metadata</a> · <a href="metrics">metrics</a></p>
</header>
<main>
<section>
<h2>Try it</h2>
<form id="form" data-predict="{escape(predict)}" data-rows="{str(signature.of_rows).lower()}">
{_fields(signature)}
<label for="body">Body</label>
<textarea id="body" rows="10" spellcheck="false">{escape(example)}</textarea>
<p><button type="submit">Predict</button> <span id="status" role="status" class="quiet"></span></p>
</form>
<pre id="answer" tabindex="0" aria-label="Answer" hidden></pre>
</section>
{_table("Inputs", signature.inputs)}
{_table("Outputs", signature.outputs)}
</main>
</body>
</html>
"""


def _fields(signature: Signature) -> str:
    columns = signature.columns
    if not columns or len(columns) > MAX_FIELDS or not _fits(signature, columns):
        return ""
    values = _first(signature)
    return '<div class="fields">' + "".join(_field(one, values) for one in columns) + "</div>"


def _fits(signature: Signature, columns: List[Value]) -> bool:
    return len(columns) == len(signature.inputs) and bool(_first(signature))


def _first(signature: Signature) -> Dict[str, Any]:
    body = signature.example
    if signature.of_rows and isinstance(body, dict):
        rows = body.get("instances")
        body = rows[0] if isinstance(rows, list) and rows else None
    return body if isinstance(body, dict) else {}


def _field(column: Value, values: Dict[str, Any]) -> str:
    value = values.get(column.name)
    text = value if isinstance(value, str) and column.json_type == "string" else json.dumps(value)
    return (
        f'<label>{escape(column.name)} <span class="quiet">{escape(column.json_type)}</span>'
        f'<input data-name="{escape(column.name)}" data-type="{escape(column.json_type)}" '
        f'value="{escape(text)}"></label>'
    )


def _table(title: str, values: List[Value]) -> str:
    if not values:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one.name)}</code></td><td>{escape(one.datatype)}</td>"
        f"<td>{escape(str(list(one.shape)))}</td><td>{'yes' if one.required else 'no'}</td></tr>"
        for one in values
    )
    head = "<tr><th>name</th><th>datatype</th><th>shape</th><th>required</th></tr>"
    return f"<section><h2>{title}</h2><table><thead>{head}</thead>{rows}</table></section>"
