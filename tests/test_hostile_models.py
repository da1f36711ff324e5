"""Models from strangers: weights are safetensors, and nothing in a folder is run."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from tamis.features.causal_loading import read_causal_model
from tamis.features.sentence_encoder import load_encoder
from tamis.storage.errors import ConfigError
from tamis.storage.model_files import read_tensors
from tiny_model import write_causal, write_transformer


class Evil:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def read_sentences(folder):
    return load_encoder(folder, "cpu", "fp32", None)


def read_causal(folder):
    return read_causal_model(folder, "fp32")


KINDS = [(write_transformer, read_sentences), (write_causal, read_causal)]


@pytest.fixture(params=KINDS, ids=["sentences", "causal"])
def model(request, tmp_path):
    write, load = request.param
    write(tmp_path / "model")
    return tmp_path / "model", load


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "adapter_model.bin"])
def test_pickled_weights_are_refused(model, tmp_path, name):
    folder, load = model
    load(folder)
    for path in folder.rglob("*.safetensors"):
        torch.save(Evil(tmp_path / "owned"), path.with_name(name))
        path.unlink()
    with pytest.raises(ConfigError, match=r"holds its weights as a pickle.*expected safetensors"):
        load(folder)
    assert not (tmp_path / "owned").exists()


def test_beside_safetensors_pickles_are_not_read(model, tmp_path):
    folder, load = model
    for path in list(folder.rglob("*.safetensors")):
        torch.save(Evil(tmp_path / "owned"), path.with_name("pytorch_model.bin"))
    load(folder)
    assert not (tmp_path / "owned").exists()


def test_code_in_the_folder_is_not_run(model, tmp_path, monkeypatch):
    folder, load = model
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked"))
    code = f"open({str(tmp_path / 'owned')!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    for path in list(folder.rglob("config.json")):
        (path.parent / "evil.py").write_text(code)
        config = json.loads(path.read_text())
        config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model",
                                                      "AutoModelForCausalLM": "evil.Model"}}  # fmt: skip
        path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="is not a"):
        load(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", ["evil.Model", "os.system", "subprocess.Popen"])
def test_modules_of_sentence_transformers_are_its_own(tmp_path, kind):
    folder = tmp_path / "model"
    write_transformer(folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass Model: pass\n")
    modules = [{"idx": 0, "name": "0", "path": "", "type": kind}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="is not a sentence-transformers model"):
        read_sentences(folder)
    assert not (tmp_path / "owned").exists()


GOOD = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
HEADERS = {
    "length": struct.pack("<Q", 2**63) + b"{}",
    "longer than the file": struct.pack("<Q", 10**9) + b"{}",
    "overlap": {"a": ["F32", [2], [0, 8]], "b": ["F32", [2], [4, 12]]},
    "hole": {"a": ["F32", [1], [4, 8]]},
    "beyond the end": {"a": ["F32", [4], [0, 16]]},
    "negative": {"a": ["F32", [-1], [0, 4]]},
    "overflow": {"a": ["F32", [2**62, 4], [0, 16]]},
    "another size": {"a": ["F64", [3], [0, 12]]},
    "no such type": {"a": ["OBJECT", [1], [0, 4]]},
    "backwards": {"a": ["F32", [1], [8, 4]]},
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_of_safetensors(tmp_path, case):
    header = HEADERS[case]
    if isinstance(header, dict):
        names = ("dtype", "shape", "data_offsets")
        header = json.dumps({name: dict(zip(names, value, strict=True)) for name, value in header.items()}).encode()
    content = header if "length" in case or "longer" in case else struct.pack("<Q", len(header)) + header + bytes(12)
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tensors(tmp_path / "a.safetensors")


@settings(max_examples=60)
@given(at=st.integers(0, len(GOOD) - 1), put=st.binary(max_size=4), cut=st.integers(0, 4))
def test_damaged_safetensors_are_read_or_refused(tmp_path_factory, at, put, cut):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(GOOD[:at] + put + GOOD[at + cut :])
    try:
        read_tensors(path)
    except ConfigError as error:
        assert "cannot be read" in str(error)
