"""The stage that trains a model: a tokenizer, the tokens of its documents, the training itself, and what is published.

A kill costs what was done since the last checkpoint, a minute at most; on a CPU the same command then comes to the same
weights, bit for bit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..features.byte_bpe import train_tokenizer
from ..features.causal_loading import read_causal_model
from ..features.causal_saving import copy_tokenizer, save_causal_model, save_tokenizer
from ..features.causal_tokens import begin_tokens, read_tokenizer
from ..features.decoder import build, n_parameters
from ..features.packing import Packing, Position
from ..features.training_settings import Settings
from ..features.training_state import History
from ..selectors.keyed import stream_key
from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.places import local_folder
from ..storage.publish import take_back
from ..storage.survivors import Survivors
from ..storage.token_files import TokenFile
from ..storage.trained_models import model_path, publish_model, training_record
from ..storage.trainings import training_alone
from .aux_models import TOKENIZER_BYTES, Plan
from .loss_curve import curve_table, draw_curve
from .resuming import Resuming
from .runs import Stage
from .token_samples import BYTES_A_TOKEN, TokenSample, read_tokens, sampled_texts
from .work import Trained, Work

UPDATES, TOKENS_OF_UPDATE = 5_000, 131_072
"""Batches are accumulated, unless told otherwise, as long as this many updates are left, up to this many tokens in one:
the size of CoLoR-Filter's (256 sequences of 512), which a small budget would be over after too few of."""
ID_BYTES, CHECKPOINT_BYTES = 4, 16
"""Of a token in the file of them, and of a parameter in a checkpoint: weights, the best ones, and two moments."""
HELD_OUT_OF_BUDGET = 50
"""Of a budget at most this part is watched, or the evaluations would cost more than a tenth of the training."""


def train_model(
    work: Work, plan: Plan, pool: Survivors, targets: Mapping[str, Survivors], trained: Mapping[str, Trained]
) -> Trained:
    """Return a model, trained now where the lake does not have it; `trained` has the one that it goes on from.

    Raises ConfigError where there is nothing to train on, or the losses stay without finite numbers.
    """
    base = trained[plan.base.name] if isinstance(plan.base, Plan) else None
    documents = pool if plan.entry.target is None else targets[plan.entry.target]
    used = [documents.digest] if plan.base is not None else [documents.digest, pool.digest]
    recipe = {"model": plan.recipe(), "base": base and base.key, "documents": used, "seed": work.config.seed}
    key = fingerprint(recipe)
    found = training_record(work.lake, key)
    if found is None:
        folder = plan.base if isinstance(plan.base, Path) else (base.folder if base else None)
        with training_alone(work.lake, key, f"the model {plan.name}", work.reporter.say):
            found = training_record(work.lake, key)
            record = found or _Job(work, plan, key, pool, documents, folder).run()
    if found is not None:
        record = found
        work.stage(f"train {plan.name}", lambda stage: stage.reuse(1))
        if work.mending and plan.base is None:
            _Job(work, plan, key, pool, documents, None).learn_tokenizer()
    work.log.record.models.append({"name": plan.name, "folder": str(model_path(work.lake, key)), **record})
    if record["tokens_planned"] < (record["budget"] or 0):
        work.log.warn(
            f"model {plan.name}: {record['tokens_planned']:,} of the {record['budget']:,} tokens of its budget are all "
            f"there are in {plan.epochs:g} passes; raise `epochs`, or lower the budget"
        )
    return Trained(key, local_folder(model_path(work.lake, key)))


@dataclass(frozen=True)
class _Job:
    """One training and what it needs."""

    work: Work
    plan: Plan
    key: str
    pool: Survivors
    documents: Survivors
    base: Path | None

    def run(self) -> dict[str, Any]:
        """Make what is needed, train, publish, and return the record."""
        tokenizer, begin = self._tokenizer()
        sample = self._sample(tokenizer, begin)
        if sample.n_tokens < 2:
            raise ConfigError(f"model {self.plan.name}: there are no documents to train it on")
        stage = partial(self._train, tokenizer, sample)
        record: dict[str, Any] = self.work.stage(f"train {self.plan.name}", stage)
        return record

    def learn_tokenizer(self) -> None:
        """Bring the tokenizer that it was trained with into the lake."""
        self._tokenizer()

    def _key(self, purpose: str, passed: int = 0) -> int:
        """Return a key that is the same for all models: those on the same pool share a tokenizer and documents."""
        return stream_key(self.work.config.seed, "models", purpose, passed)

    def _tokenizer(self) -> tuple[Tokenizer, tuple[int, ...]]:
        """Return the tokenizer of the base, or one that is learned from the pool; and what documents begin with."""
        if self.base is not None:
            return read_tokenizer(self.base)[0], begin_tokens(self.base)
        size = self.plan.entry.vocabulary
        key = self._key("tokenizer")
        recipe = {"tokenizer": size, "bytes": TOKENIZER_BYTES, "pool": self.pool.digest, "key": key}
        path = self.work.lake.state(fingerprint(recipe)) / "tokenizer.json"

        def learn(stage: Stage) -> Tokenizer:
            if path.exists():
                stage.reused = 1
                return Tokenizer.from_file(str(path))
            stage.computed = 1
            name = f"tokenizer of {self.plan.name}"
            found = train_tokenizer(sampled_texts(self.work, name, self.pool, key, TOKENIZER_BYTES), size)
            self.work.lake.publish_bytes(path, found.to_str().encode())
            return found

        return self.work.stage(f"tokenizer {self.plan.name}", learn), Packing.begin

    def _sample(self, tokenizer: Tokenizer, begin: tuple[int, ...]) -> TokenSample:
        entry = self.plan.entry
        purpose = f"documents of generation {self.plan.generation}"
        key = self._key(purpose)
        budget = entry.tokens
        held_out = entry.held_out if budget is None else min(entry.held_out, budget // HELD_OUT_OF_BUDGET)
        wanted = budget + held_out if budget and entry.target is None else None
        path = self.work.lake.training(self.key) / "tokens.arrow"
        name = f"tokens {self.plan.name}"

        def read(stage: Stage) -> TokenFile:
            if not path.exists():
                n_tokens = self.documents.n_bytes / BYTES_A_TOKEN
                self.work.expect(stage, ID_BYTES * (n_tokens if wanted is None else min(n_tokens, wanted)))
            return read_tokens(self.work, self.documents, tokenizer, key, wanted, path, stage)

        file = self.work.stage(name, read)
        return TokenSample(file, key, partial(self._key, f"order of {purpose}"), begin, wanted, held_out)

    def _train(self, tokenizer: Tokenizer, sample: TokenSample, stage: Stage) -> dict[str, Any]:
        entry, lake = self.plan.entry, self.work.lake
        model = self._model().to(self.plan.device)
        context = entry.context or min(model.config.max_position_embeddings, 2048)
        planned = int(self.plan.epochs * sample.n_tokens)
        if entry.tokens is not None:
            planned = min(planned, entry.tokens)
        settings = _with_steps(self.plan, planned, context)
        held_out = [ids for ids, _ in Packing(sample.held_out, context, None, ())(Position())]
        if not held_out:
            settings = replace(settings, patience=None)
        self.work.expect(stage, about=2 * CHECKPOINT_BYTES * n_parameters(model), exact=4 * n_parameters(model))
        update = context * settings.batch * settings.accumulation
        run = Resuming(lake.training(self.key) / "checkpoints", lake.scratch)
        before = min(planned, run.step * update)
        with self.work.reporter.meter(planned, f"train {self.plan.name}", "tokens", before) as advance:

            def after(history: History) -> None:
                now = min(planned, history.step * update)
                advance(now - min(planned, (history.step - 1) * update), _note(history))

            history = run.train(model, Packing(sample.pieces, context, planned, ()), settings, held_out, after)
        curve = curve_table(history, update, planned)
        record = {
            "model": self.plan.name, "parameters": n_parameters(model), "documents": sample.n_documents,
            "documents_held_out": sample.n_held_out,
            "tokens": min(planned, history.step * update), "tokens_planned": planned, "budget": entry.tokens,
            "tokens_a_pass": sample.n_tokens, "context": context,
            "tokens_a_step": update, "steps": history.step, "skipped": history.n_skipped,
            "loss": next((x for x in reversed(history.losses) if x is not None), None),
            "held_out": [history.held_out[0][1], history.held_out[history.best][1]] if held_out else None,
            "seconds": round(run.seconds, 1), "recipe": self.plan.recipe(),
        }  # fmt: skip
        title = f"{self.plan.name}: {n_parameters(model) / 1e6:.3g}M parameters, {record['tokens']:,} tokens"
        picture = draw_curve(curve, title, None if settings.patience is None else history.held_out[history.best])
        stage.computed = 1

        def save(folder: Path) -> None:
            save_causal_model(model, folder)
            if self.base is not None:
                copy_tokenizer(self.base, folder)
            else:
                save_tokenizer(tokenizer, context, folder)

        done = publish_model(lake, self.key, save, curve, picture, record)
        take_back(lake.training(self.key))
        return done

    def _model(self) -> Any:
        """Return the weights that the training begins with; nothing is dropped out, so that it can be repeated."""
        if self.base is not None:
            return read_causal_model(self.base, "fp32").eval()
        decoder = self.plan.decoder
        assert decoder is not None  # an entry has either a size or a base
        return build(decoder, self.plan.entry.vocabulary, self._key("weights") >> 1)


def _with_steps(plan: Plan, tokens: int, context: int) -> Settings:
    """Return the settings with what follows from the tokens: updates, the batches of one, and when to evaluate."""
    batch = context * plan.settings.batch
    accumulation = plan.settings.accumulation
    if "accumulation" not in plan.entry.parameters:
        accumulation = max(1, min(tokens // (UPDATES * batch), TOKENS_OF_UPDATE // batch))
    steps = max(1, math.ceil(tokens / (batch * accumulation)))
    every = max(1, round(steps / plan.entry.evaluations))
    return replace(plan.settings, steps=steps, accumulation=accumulation, evaluate_every=every)


def _note(history: History) -> str:
    loss = history.losses[-1]
    found = "no finite loss" if loss is None else f"loss {loss:.3f}"
    return found + (f", held out {history.held_out[-1][1]:.3f}" if history.held_out else "")
