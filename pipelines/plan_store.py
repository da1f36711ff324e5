"""Where a plan lies, and how the run that it was made for finds it.

Both name it by what the flow computes and by the list of the raw files, with sizes and times: what is known before
anything is read.
"""

from pathlib import Path
from typing import Any

from ..storage.errors import LakeError
from ..storage.fingerprint import fingerprint
from ..storage.inputs import list_inputs
from ..storage.lake import read_json
from .config import Files, FlowEntry
from .flow_checks import target_names
from .flows import finished_run, flow_fingerprint
from .ingesting import target_corpus
from .parents import states_before
from .work import Work


def plan_path(work: Work, name: str, flow: FlowEntry) -> Path:
    """Return where the plan of a flow over the present files lies."""
    config = work.config
    entries: dict[str, Files] = {flow.corpus: config.corpora[flow.corpus]}
    entries |= {target_corpus(n): config.targets[n] for n in target_names(config, flow)}
    listed = {
        corpus: fingerprint([
            [f.as_listed() for f in list_inputs(e.files, work.root)],
            e.model_dump(mode="json", exclude={"rehash"}),
        ])
        for corpus, e in entries.items()
    }  # fmt: skip
    before = states_before(work.lake, name, flow.steps)
    return work.lake.plan(flow_fingerprint(work, name, flow, listed, before))


def stored_plan(work: Work, name: str, flow: FlowEntry) -> dict[str, Any]:
    """Return the plan of a flow that is about to run; empty where there is none, or nothing is left to do.

    A damaged one counts as none: it must not keep a run from running, and `tamis verify` names it.
    """
    if not any((work.lake.root / "plans").glob("*.json")):
        return {}
    path = plan_path(work, name, flow)
    if not path.exists() or finished_run(work, name, flow):
        return {}
    try:
        found: dict[str, Any] = read_json(path)
    except LakeError:
        return {}
    return found
