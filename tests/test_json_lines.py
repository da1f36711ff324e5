"""The kernel and its fall-back against `parse_line` alone: the same records, the same reasons, in the same order."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.storage.inputs import ReadOptions, Record, RefusedError
from tamis.storage.json_lines import _parsed, _scanned, json_lines
from tamis.storage.jsonl import parse_line
from tamis.storage.streams import Block, DamagedError

SPACES = st.sampled_from(["", "", "", " ", "\t", "\r", " \r\t "])
NUMBERS = st.sampled_from(
    ["0", "-0", "7", "-12", "1.50", "1e5", "1E+5", "2e-07", "1e400", "-0.0", "123456789012345678901234567890", "0e0"]
)
WORDS = st.sampled_from(["true", "false", "null"])
WRONG = st.sampled_from([
    "01", "1.", ".5", "-", "+1", "1e", "1e+", "0x1", "1_0", "NaN", "Infinity", "nul", "nulll", "True", ",", "]", "}",
    "[1,]", "[,1]", "{,}", "{'a':1}", "[}", "{]", "[[]", "/**/1", "", "- 1", "tru e", "[1 2]", "1 1", '"a" "b"',
    '{"a"}', '{"a":}', '{"a":1,}', '{"a" 1}', "{1:2}", '"a\tb"', '"a\x00b"', '"', '"\\"', '"\\x"', '"\\u12"',
    '"\\u12g4"', '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\ud83d\\ud83d\\ude00"', "[" * 70 + "]" * 70,
])  # fmt: skip
KEYS = ["text", "id", "source", "meta", "a", "b", "é", "", "tex", "texts", "doc", "body"]


@st.composite
def strings(draw):
    """Write a text as a JSON string, each character in one of its ways."""
    out = []
    for character in draw(st.text(st.characters(codec="utf-8"), max_size=8)):
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        escaped = "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le")).cast("H"))
        out.append(draw(st.sampled_from([plain, plain, escaped, escaped.upper().replace("U", "u"), "\\/"])))
    return f'"{"".join(out)}"'


def spaced(inner):
    return st.tuples(SPACES, inner, SPACES).map("".join)


def objects(values, keys):
    pairs = st.tuples(spaced(keys), spaced(values)).map(":".join)
    return st.lists(pairs, max_size=5).map(lambda p: "{" + ",".join(p) + "}") | st.tuples(SPACES).map(
        lambda s: "{" + s[0] + "}"
    )


KEY = st.sampled_from([json.dumps(key, ensure_ascii=False) for key in KEYS]) | st.just('"te\\u0078t"') | strings()
VALUES = st.recursive(
    strings() | NUMBERS | WORDS,
    lambda inner: st.lists(spaced(inner), max_size=3).map(lambda v: f"[{','.join(v)}]") | objects(inner, KEY),
    max_leaves=6,
)
LABELS = strings() | NUMBERS | st.just("null")
ORDINARY = st.fixed_dictionaries(
    {"text": strings()},
    optional={"id": LABELS, "source": LABELS, "meta": objects(VALUES, KEY) | st.just("null"), "b": VALUES, "é": VALUES},
)
PAIRS = st.lists(st.tuples(spaced(KEY), spaced(VALUES)).map(":".join), max_size=3)


@st.composite
def objects_with_text(draw):
    """Write a record whose fields are of their usual types, in any order; now and then with anything else beside."""
    pairs = [f'{draw(SPACES)}"{k}"{draw(SPACES)}:{draw(SPACES)}{v}' for k, v in draw(ORDINARY).items()]
    pairs += draw(st.just([]) | PAIRS)
    return "{" + ",".join(draw(st.permutations(pairs))) + draw(SPACES) + "}"


WRONG_VALUE = st.tuples(KEY, WRONG, SPACES).map(lambda t: f'{{"text":"",{t[0]}:{t[1]}}}{t[2]}')
LINE = (spaced(objects_with_text()) | spaced(objects_with_text()) | WRONG_VALUE | VALUES | WRONG).map(str.encode)


@st.composite
def damaged(draw, lines=LINE):
    """Change some bytes of a line."""
    line = bytearray(draw(lines))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        byte = draw(
            st.sampled_from(b'"\\{}[]:,u0d8 \x00\x7f\x80\xbf\xc0\xc3\xe0\xed\xf0\xf4\xf5\xff\xa9') | st.integers(0, 255)
        )
        line[at : at + draw(st.integers(0, 1))] = b"" if byte == 10 else bytes([byte])
    return bytes(line)


OPTIONS = st.sampled_from(
    [ReadOptions()] * 4
    + [ReadOptions(text="body"), ReadOptions(text="meta", id="a", source="b"), ReadOptions(id="text", source="meta")]
    + [ReadOptions(text="meta.text"), ReadOptions(id="meta.a", source="meta.b"), ReadOptions(max_record_bytes=40)]
)


def expected(lines, options):
    for number, line in enumerate(lines, 1):
        try:
            record = parse_line(line, number, options)
        except RefusedError as refusal:
            yield number, str(refusal), line[:4096]
        else:
            if record is not None:
                yield record


def flat(pieces):
    for rows, bad in pieces:
        rows.validate(full=True)
        records = [Record(**row) for row in rows.to_pylist()]
        for place, record in reversed(bad):
            records.insert(place, (record.line, record.reason, record.raw))
        yield from records


def taken(lines, options):
    """Return what the kernel alone makes of lines, and how many it leaves."""
    data, at, rows, n_odd, n_before = b"".join(line + b"\n" for line in lines), 0, [], 0, 0
    while at < len(data):
        batch, odd, at, n_lines = _scanned(data, at, n_before, options)
        batch.validate(full=True)
        rows += [Record(**row) for row in batch.to_pylist()]
        n_odd += len(odd)
        n_before += n_lines
    return rows, n_odd


def assert_agree(lines, options):
    whole = list(expected(lines, options))
    rows, n_odd = taken(lines, options)
    assert set(rows) <= {item for item in whole if isinstance(item, Record)}
    assert len(whole) <= len(rows) + n_odd
    for share in (16, 0):  # most odd lines by hand, or each put in its place
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tamis.storage.json_lines._ODD_SHARE", share)
            assert list(flat(_parsed("a", options, Block(0, b"".join(line + b"\n" for line in lines))))) == whole


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINE | damaged(), max_size=12), options=OPTIONS)
def test_blocks_hold_what_their_lines_hold(lines, options):
    if "." in options.text + options.id + options.source:
        found = list(flat(_parsed("a", options, Block(0, b"".join(line + b"\n" for line in lines)))))
        assert found == list(expected(lines, options))
    else:
        assert_agree(lines, options)


BYTES = [bytes([byte]) for byte in range(256) if byte != 10]
ANYWHERE = [
    b'{"text":"%b"}', b'{"text":"a\\%b"}', b'{%b"text":"a"}', b'{"text"%b:"a"}', b'{"text":"a"%b}', b'{"text":"a"}%b',
    b'{"text":"","meta":{"a":"%b"}}', b'{"text":"","m":[1%b]}', b'{"text":"","id":%b}', b'{"text":"","%b":1}',
    b'{"text":"","m":%b1}', b'{"text":"","m":1%b2}',
]  # fmt: skip
EDGES = [bytes([byte]) for byte in (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)]
SEQUENCES = [
    lead + rest
    for lead in BYTES[0xBF:]
    for edge in EDGES
    for rest in (b"", edge, edge + b"\x80", edge + b"\x80\x80", b"\x90" + edge + b"\x80", b"\x90\x80" + edge)
]
UNITS = [b"0041", b"00e9", b"d7ff", b"d800", b"dbff", b"dc00", b"dfff", b"e000", b"ffff"]
ESCAPES = [b"\\u" + a + join + b for a in UNITS for b in UNITS for join in (b"\\u", b"", b"x\\u", b"\\\\u")]
NUMBERS_OR_NOT = (
    b"0 -0 00 01 -01 1 1. 1.0 .5 1.e1 1e 1e+ 1e+1 1E-01 1e1.0 - -- +1 1- 0e0 0x0 true tru truee null nul false nulL "
    b'[] [,] [1,] [[]] [} {} {,} {:} "" " \'\' NaN -Infinity'
)
VALUED = [
    b'{"text":"","m":%b}', b'{"text":"","id":%b}', b'{"text":"","source":%b}', b'{"text":%b}', b'{"text":"","m":[%b]}',
    b'{"text":"","meta":%b,"a":1}', b'{"text":"","meta":%b}',
]  # fmt: skip
NESTED = [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")]
REPEATED = [
    b'{"a":1,"text":"","a":2}', b'{"text":"","text":""}', b'{"text":"","meta":{"a":1,"a":2}}',
    b'{"id":1,"text":"","id":2}',
    b'{"text":"","meta":{"a":1,"a":2},"b":1}', b'{"text":"","meta":{"b":1},"b":2}', b'{"b":0,"text":"","meta":{"a":1}}',
    b'{"text":"","meta":{},"b":1}', b'{"text":"","meta":{ }}', b'{"text":"","id":""}', b'{"text":"","source":""}',
    b'{"text":"","meta":{"text":1},"b":2}', b'{"\\u0061":1,"text":"","a":2}', b'{"text":"","meta":null,"meta":{}}',
]  # fmt: skip
EXHAUSTIVE = {
    "any byte": [place % byte for place in ANYWHERE for byte in BYTES],
    "UTF-8": [b'{"text":"%b"}' % sequence for sequence in SEQUENCES],
    "surrogates": [b'{"text":"%b"}' % escape for escape in ESCAPES],
    "values": [place % word for place in VALUED for word in NUMBERS_OR_NOT.split()],
    "depth": [
        b'{"text":"","%b":%b1%b}' % (key, begin * depth, end * depth)
        for depth in (1, 2, 29, 30, 31, 32, *range(57, 67), 127, 128, 129, 255, 256, 257)
        for begin, end in NESTED
        for key in (b"meta", b"m")
    ],
    "many keys": [b'{"text":""%b}' % b"".join(b',"k%d":1' % k for k in range(n)) for n in range(124, 132)],
    "repeated keys": REPEATED,
}


@pytest.mark.parametrize("case", EXHAUSTIVE)
def test_the_kernel_takes_nothing_else(case):
    assert_agree(EXHAUSTIVE[case], ReadOptions())


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(LINE, max_size=30), size=st.integers(1, 200), data=st.data())
def test_chunks_and_damage_move_nothing(lines, size, data):
    content = b"\n".join(lines)
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    assert list(flat(json_lines("a", iter(chunks), ReadOptions(), map))) == list(expected(lines, ReadOptions()))
    at_end, cut = data.draw(st.booleans()), data.draw(st.integers(0, len(chunks)))

    def breaking():
        yield from chunks[:cut]
        raise DamagedError("broken", at_end=at_end)

    *whole, rest = b"".join(chunks[:cut]).split(b"\n")
    kept = whole + [rest] * (at_end and bool(rest))
    *found, bad = flat(json_lines("a", breaking(), ReadOptions(), map))
    assert found == list(expected(kept, ReadOptions()))
    assert bad == (len(kept) + 1, "broken", b"" if at_end else rest)


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "a", "text": "é\\u00e9\\ud83d\\ude00\\n", "source": "web", "meta": {"n": [1, {"x": null}], "n": 2}}',
        '{"text":"","url":"http://a/b","score":-1.5e-7,"tags":[],"none":{}}',
        ' { "meta" : { "a" : 1 , "b": "\\u00e9" } , "text" : "x" , "id" : 7 , "lang" : "de", "source": null } \r',
        '{"text": "x", "meta": {}, "id": null, "source": 3}',
        '{"text": "x", "meta": null, "id": ""}',
    ],
)
def test_ordinary_lines_do_not_fall_back(line):
    rows, odd, at, n_lines = _scanned(line.encode() + b"\n\n \t\n", 0, 0, ReadOptions())
    assert (odd, at, n_lines) == ([], len(line.encode()) + 5, 3)
    assert [Record(**row) for row in rows.to_pylist()] == list(expected([line.encode()], ReadOptions()))


@pytest.mark.parametrize("n_good", [1, 40])
def test_many_short_or_bad_lines_fit(read, tmp_path, n_good):
    lines = [*[b'{"text":""}'] * n_good, b"", b"x"] * (60_000 // n_good)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    documents, bad = read(tmp_path / "a.jsonl")
    assert [d["line"] for d in documents] == [n for n, line in enumerate(lines, 1) if line.startswith(b"{")]
    assert [b.line for b in bad] == [n for n, line in enumerate(lines, 1) if line == b"x"]
