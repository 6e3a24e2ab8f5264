"""The process of a campaign: ``python -m fewmark.web.campaigns.process FOLDER``, with the store in FEWMARK_STORE.

It is started with the lock of the store's campaigns in its hands, and holds it for as long as it lives.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from fewmark.campaign import Step
from fewmark.campaign.words import ended_text, step_text
from fewmark.core.errors import FewmarkError
from fewmark.verbs.campaign import campaign
from fewmark.web.campaigns.folder import STOPPED, CampaignFolder


def main(path: Path) -> int:
    """Run the campaign of a folder to its end, which is written there however it comes."""
    folder = CampaignFolder(path)
    asked = folder.request

    def note(step: Step) -> None:
        _log(step_text(step))
        folder.add_step(
            {
                "n_measured": step.n_measured, "n_failed": step.n_failed, "spent_s": step.spent_s,
                "median_ape": step.forecast.median_ape if step.n_measured else None,
            }
        )  # fmt: skip

    try:
        done = campaign(
            folder.suite, budget=asked.budget, target_error=asked.target_error, target=asked.target,
            model=asked.model, prior=asked.prior, quiet=True, on_step=note,
        )  # fmt: skip
    except KeyboardInterrupt:
        words = "it was stopped; each cell that was finished is in the store"
        folder.write_end({"ended": STOPPED, "words": words, "advice": []})
        return 130
    except FewmarkError as error:
        _log(f"error: {error}")
        folder.write_end({"problem": dict(error.to_dict())})
        return 2
    except Exception as error:
        folder.write_end({"problem": {"what": "it broke off", "got": repr(error)[:500], "hint": "see its log"}})
        raise
    advice = [f"{one.message} ({one.hint})" if one.hint else one.message for one in done.advice]
    _log("\n".join((f"ended: {ended_text(done)}", *advice)))
    folder.write_end({"ended": done.ended, "words": ended_text(done), "advice": advice})
    return 0


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _interrupt(number: int, frame: object) -> None:
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # what is being saved and closed is not disturbed by further ones
    raise KeyboardInterrupt


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _interrupt)
    sys.exit(main(Path(sys.argv[1])))
