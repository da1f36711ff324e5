"""tamis from Python: load a configuration, run a flow, ask the catalogue.

The five lines of the README::

    import tamis
    run = tamis.run("flows.yaml", "demo")
    print(run.steps, run.outputs)
    chosen = tamis.sql(run.lake, "select doc_id, score from selections where run = $1 and kept", [run.id]).pl()
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..storage.catalog import connect
from ..storage.errors import ConfigError
from ..storage.id_list import read_id_list
from ..storage.inputs import list_inputs
from ..storage.lake import Lake
from ..storage.placing import check_place, place
from ..storage.plugins import nearest
from .choices import as_configured, chosen_by
from .config import Corpus, FlowEntry
from .engine_entry import Engine
from .exporting import Chosen
from .exporting import export as export_mixture
from .flow_checks import check_entry, check_outputs, training_flow
from .flows import curate, ingest_corpus, nothing_new
from .loading import Loaded, load_config, rehashing
from .measuring import measure, tokens_column
from .mixing import check_mixture, finished_flow
from .mixing import mix as make_mixture
from .outputs import Output, make_output
from .plugins import make_feature
from .progress import Reporter
from .recorded import Run, begin, recorded
from .replaying import choose_listed
from .running import run_flow
from .runs import RunRecord
from .work import Work


def load(path: Path | str = "flows.yaml", overrides: list[str] | None = None) -> Loaded:
    """Read and check a configuration. Raises ConfigError."""
    return load_config(path, overrides)


def sql(lake: Lake | Path | str, query: str, parameters: Any = None) -> Any:
    """Ask the catalogue; return a DuckDB relation (`.pl()`, `.df()`, `.fetchall()`, `.to_arrow_table()`)."""
    found = lake if isinstance(lake, Lake) else Lake.open(lake)
    return connect(found).sql(query, params=parameters)


def run(
    config: Loaded | Path | str, flow: str, *, overrides: list[str] | None = None, prefect: bool = False,
    reporter: Reporter | None = None, workers: int | None = None, rehash: bool = False,
) -> Run:  # fmt: skip
    """Run a flow and return what it did; `rehash` digests every input file instead of trusting what looks unchanged.

    Raises ConfigError before any work where the flow cannot be right, and TamisError where it fails; either way the
    lake keeps what was finished, and the same call goes on from there.
    """
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    loaded = rehashing(loaded) if rehash else loaded

    def execute(work: Work, name: str, entry: FlowEntry) -> None:
        if prefect and not nothing_new(work, name, entry):
            from .prefect_flow import curate_with_prefect  # Prefect takes seconds to import

            curate_with_prefect(work, name, entry)
        else:
            curate(work, name, entry)

    return run_flow(loaded, flow, execute, workers, reporter)


def train_aux(
    config: Loaded | Path | str, model: str, *, flow: str | None = None, overrides: list[str] | None = None,
    reporter: Reporter | None = None, workers: int | None = None,
) -> Run:  # fmt: skip
    """Train a model of the configuration, and those that it comes from, where the lake does not have them.

    It sees what a run of `flow` would show it: what is left before the step that trains it. Without a name, that is the
    one flow that trains it; where none does, it sees a whole corpus, of which there must be one. Raises as `run` does.
    """
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    features = {alias: make_feature(alias, entry, loaded.root) for alias, entry in loaded.config.features.items()}
    name, entry = training_flow(loaded.config, model, flow)
    check_entry(loaded, name, entry, features)
    work = begin(loaded, f"train-aux {model}", features, entry.engine.with_workers(workers), reporter)
    return recorded(work, lambda: curate(work, name, entry))


def mix(
    config: Loaded | Path | str, mixture: str, *, overrides: list[str] | None = None, prefect: bool = False,
    reporter: Reporter | None = None, workers: int | None = None, rehash: bool = False,
) -> Run:  # fmt: skip
    """Make a mixture of what its flows chose and of corpora.

    A flow that has no finished run over the present files is run first, as `run` does, a run of its own; with `rehash`
    every flow is. Raises as `run` does.
    """
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    loaded = rehashing(loaded) if rehash else loaded
    features = {alias: make_feature(alias, entry, loaded.root) for alias, entry in loaded.config.features.items()}
    entry = check_mixture(loaded, mixture, features)
    work = begin(loaded, f"mix {mixture}", features, entry.engine.with_workers(workers), reporter)

    def of_flow(flow: str) -> RunRecord:
        if found := finished_flow(work, flow):
            return found
        return run(loaded, flow, prefect=prefect, reporter=reporter, workers=workers).record

    flows = dict.fromkeys(part.flow for part in entry.parts if part.flow is not None)
    return recorded(work, lambda: make_mixture(work, mixture, entry, {flow: of_flow(flow) for flow in flows}))


def ingest(
    config: Loaded | Path | str, corpus: str, *, overrides: list[str] | None = None, reporter: Reporter | None = None,
    rehash: bool = False,
) -> Run:  # fmt: skip
    """Bring one corpus into the lake, without a flow. Raises ConfigError and TamisError as `run` does."""
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    loaded = rehashing(loaded) if rehash else loaded
    entry = _corpus(loaded, corpus)
    work = begin(loaded, f"ingest {corpus}", {}, Engine(), reporter)
    return recorded(work, lambda: ingest_corpus(work, corpus, entry))


def export(
    config: Loaded | Path | str, name: str, outputs: Sequence[Mapping[str, Any]], *, folder: Path | str | None = None,
    overrides: list[str] | None = None, reporter: Reporter | None = None, workers: int | None = None,
) -> Run:  # fmt: skip
    """Write what a run chose in other forms, without running it again: entries as in the `outputs` of a flow.

    `name` is a flow, whose newest finished run is taken, the id of a run, or a mixture, which is made where it was not.
    With a `folder` there is one output, which lies there too. Raises ConfigError where there is no such run, and as
    `run` does.
    """
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    if name in loaded.config.mixtures and name not in loaded.config.flows:
        if not outputs:
            raise ConfigError(f"no form in which {name!r} is to be written; give at least one output")
        return _export_mixture(loaded, name, _forms(loaded, outputs, folder), folder, reporter, workers)
    chosen = chosen_by(Lake.open(loaded.lake), name, loaded.config.flows)
    loaded = as_configured(loaded, Lake.open(loaded.lake), chosen.run, overrides)
    forms = _forms(loaded, outputs, folder)
    work = begin(loaded, f"export {name}", {}, Engine(workers=workers), reporter)

    def body() -> None:
        measure(work, chosen.survivors, tokens_column(work))
        _write(work, chosen, forms, folder)

    return recorded(work, body)


def replay(
    config: Loaded | Path | str, ids: Path | str, corpus: str, outputs: Sequence[Mapping[str, Any]] = (), *,
    folder: Path | str | None = None, overrides: list[str] | None = None, reporter: Reporter | None = None,
    workers: int | None = None,
) -> Run:  # fmt: skip
    """Choose from a corpus what an exported list of ids names, and write it.

    A document is chosen by id and text, or, where the ids of this copy are others, by its text. What is not there makes
    the exit code 3. Raises InputError where the file is no such list, and as `run` does.
    """
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    entry = _corpus(loaded, corpus)
    forms = _forms(loaded, outputs, folder)
    listed = read_id_list(Path(ids))
    work = begin(loaded, f"replay {corpus}", {}, Engine(workers=workers), reporter)
    return recorded(work, lambda: _write(work, choose_listed(work, listed, corpus, entry), forms, folder))


def _export_mixture(
    loaded: Loaded, name: str, forms: list[Output], folder: Path | str | None, reporter: Reporter | None,
    workers: int | None,
) -> Run:  # fmt: skip
    mixtures = loaded.config.mixtures
    changed = {**mixtures, name: mixtures[name].model_copy(update={"outputs": forms})}
    done = mix(
        replace(loaded, config=loaded.config.model_copy(update={"mixtures": changed})), name, reporter=reporter,
        workers=workers,
    )  # fmt: skip
    if folder is not None:
        place(done.outputs[0], Path(folder))
    return done


def _forms(loaded: Loaded, outputs: Sequence[Mapping[str, Any]], folder: Path | str | None) -> list[Output]:
    forms = [make_output(given) for given in outputs]
    if folder is not None:
        check_place(Path(folder))
    if folder is not None and len(forms) != 1:
        raise ConfigError(f"{len(forms)} outputs for the folder {str(folder)!r}, expected one")
    check_outputs(loaded, forms)
    return forms


def _write(work: Work, chosen: Chosen, forms: list[Output], folder: Path | str | None) -> None:
    found = export_mixture(work, chosen, forms)
    work.log.record.outputs = found
    if folder is not None:
        place(work.lake.mixture(chosen.name, found[0]["key"]), Path(folder))


def _corpus(loaded: Loaded, corpus: str) -> Corpus:
    if corpus not in loaded.config.corpora:
        raise ConfigError(f"no corpus {corpus!r}{nearest(corpus, list(loaded.config.corpora))}")
    entry = loaded.config.corpora[corpus]
    list_inputs(entry.files, loaded.root)
    return entry
