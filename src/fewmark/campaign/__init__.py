"""The closed loop: plan, run, store, learn, plan again, until the budget is spent or the error asked for is reached."""

from fewmark.campaign.account import Campaign, LedgerEntry, Step
from fewmark.campaign.loop import run_campaign
from fewmark.runner.executors.threads import SideBySide

__all__ = ["Campaign", "LedgerEntry", "SideBySide", "Step", "run_campaign"]
