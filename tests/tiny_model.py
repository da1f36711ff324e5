"""Small models with made-up weights, in the layouts of sentence-transformers, model2vec, StaticEmbedding and Llama."""

import json
import string

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "of", "and", "to", "in", "is", "river", "mountain", "def", "return", "lorem", "ipsum", "##s", "##ing"]
DIMENSION, MAX_TOKENS = 32, 48
CONTEXT = 32


def tokenizer():
    """WordPiece over ASCII, lower case, with [CLS] and [SEP]."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = dict.fromkeys([*SPECIAL, *WORDS, *letters, *(f"##{c}" for c in letters)])
    made = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(SPECIAL)
    return made


def write_transformer(folder, seed=0, max_tokens=MAX_TOKENS):
    """Write a BERT of two layers, mean pooling and normalisation, as sentence-transformers lays them out."""
    folder.mkdir(parents=True)
    made = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    n = made.get_vocab_size()
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": DIMENSION, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": n,
        "type_vocab_size": 2, "hidden_act": "gelu", "pad_token_id": 0, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    for path, content in {
        "config.json": config,
        "modules.json": listed,
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_tokens,
            **names,
        },
        "1_Pooling/config.json": pooling,
    }.items():
        (folder / path).write_text(json.dumps(content))
    save_file(_weights(n, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_static(folder, layout="model2vec", seed=0, **tensors):
    """Write a table of vectors and its tokenizer."""
    inside = folder / ("0_StaticEmbedding" if layout == "StaticEmbedding" else "")
    inside.mkdir(parents=True)
    made = tokenizer()
    made.save(str(inside / "tokenizer.json"))
    table = np.random.default_rng(seed).normal(size=(made.get_vocab_size(), DIMENSION)).astype(np.float32)
    name = "embedding.weight" if layout == "StaticEmbedding" else "embeddings"
    save_file({name: table} | tensors, inside / "model.safetensors")
    return folder


def write_causal(folder, seed=0, bos=True, kind="llama", **config):
    """Write a causal model of two layers that reads 32 tokens; with `bos`, its tokenizer begins with <s>."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True)
    made = byte_tokenizer(bos)
    made.save(str(folder / "tokenizer.json"))
    sizes = {
        "hidden_size": DIMENSION, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "intermediate_size": 64, "max_position_embeddings": CONTEXT, "vocab_size": made.get_vocab_size(),
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.3, "init_std": 0.3,
    }  # fmt: skip
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(sizes | config)))
    model.save_pretrained(folder)
    torch.set_rng_state(before)
    return folder


def byte_tokenizer(bos):
    """Byte-level BPE with some dozen merges."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([" ".join(WORDS) + " the river of lorem ipsum in the mountain"] * 4, trainer)
    if bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


def _weights(n_tokens, seed):
    rng = np.random.default_rng(seed)
    shapes = {"word": (n_tokens, DIMENSION), "position": (64, DIMENSION), "token_type": (2, DIMENSION)}
    found = {f"embeddings.{name}_embeddings.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    linears = {"pooler.dense": (DIMENSION, DIMENSION)}
    norms = ["embeddings.LayerNorm"]
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        square = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
        linears |= {f"{layer}.{name}": (DIMENSION, DIMENSION) for name in square}
        linears |= {f"{layer}.intermediate.dense": (64, DIMENSION), f"{layer}.output.dense": (DIMENSION, 64)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in linears.items():
        found |= {f"{name}.weight": rng.normal(size=shape) * 0.3, f"{name}.bias": rng.normal(size=shape[0]) * 0.1}
    for name in norms:
        found |= {f"{name}.weight": np.ones(DIMENSION), f"{name}.bias": np.zeros(DIMENSION)}
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}
