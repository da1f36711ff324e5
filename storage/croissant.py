"""A mixture as Croissant describes data sets: its files with their SHA-256, and the columns of those in Parquet.

Source: MLCommons, Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Its own
program, `mlcroissant`, accepts it and loads the documents by it.
"""

import json
from typing import Any

import pyarrow as pa

CROISSANT = "croissant.json"
_PARQUET, _PARTS = "application/x-parquet", "parts"
_ENCODINGS = {".parquet": _PARQUET, ".zst": "application/zstd", ".json": "application/json"}
_TYPES = {
    pa.string(): "sc:Text", pa.large_string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float",
}  # fmt: skip
_TERMS = (
    "citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
    "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
    "replace", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "dct": "http://purl.org/dc/terms/",
    "cr": "http://mlcommons.org/croissant/", "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"}, "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, **{term: f"cr:{term}" for term in _TERMS},
}  # fmt: skip


def croissant(manifest: dict[str, Any], schema: pa.Schema | None, licences: list[str]) -> bytes:
    """Return the JSON-LD of one written form of a mixture; `schema` is that of its Parquet files, None: it has none."""
    name = manifest["mixture"]
    described = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "name": name, "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": f"{manifest['rows']:,} documents, {manifest['tokens']:,} tokens, chosen by tamis "
        f"{manifest['tamis']} in run {manifest['run']}; card.md and manifest.json say how.",
        "distribution": [_file(f) for f in manifest["files"]],
    }  # fmt: skip
    if licences:
        described["license"] = licences
    if schema is not None and manifest["files"]:
        described["distribution"].append(
            {"@type": "cr:FileSet", "@id": _PARTS, "name": _PARTS, "encodingFormat": _PARQUET,
             "includes": "part-*.parquet"}
        )  # fmt: skip
        described["recordSet"] = [
            {"@type": "cr:RecordSet", "@id": "documents", "name": "documents", "field": [_column(f) for f in schema]}
        ]
    return json.dumps(described, indent=1, ensure_ascii=False).encode()


def _file(entry: dict[str, Any]) -> dict[str, Any]:
    name = entry["file"]
    encoding = _ENCODINGS.get(name[name.rindex(".") :], "application/octet-stream")
    return {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": encoding,
            "sha256": entry["sha256"]}  # fmt: skip


def _column(field: pa.Field) -> dict[str, Any]:
    return {
        "@type": "cr:Field", "@id": f"documents/{field.name}", "name": field.name, "dataType": _TYPES[field.type],
        "source": {"fileSet": {"@id": _PARTS}, "extract": {"column": field.name}},
    }  # fmt: skip
