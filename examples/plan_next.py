"""Ask which cells of a grid are worth measuring next, measure them (here: look them up), and ask again."""

from fewmark import datasets
from fewmark.models.registry import make_model
from fewmark.planning.propose import make_planner
from fewmark.tables.identity import cell_columns, deployment_codes
from fewmark.tables.repeats import measured_cells

table = measured_cells(datasets.load("llm-inference-bench", screened=True), "throughput_tok_s")
grid = table[deployment_codes(table) == 0].reset_index(drop=True)

planner = make_planner(grid.iloc[:0], grid[cell_columns(grid)], make_model("mechanistic"))
for _ in range(3):
    (proposal,) = planner.ask(1, budget_s=600)
    cell = grid.iloc[proposal.position]
    planner.tell(proposal.position, cell["throughput_tok_s"], latency_s=cell["e2e_latency_s"])
    print(
        f"{cell['input_tokens']:g}→{cell['output_tokens']:g} at batch {cell['batch_size']:g}: "
        f"forecast error {proposal.forecast_error_before:.0%} before, {proposal.forecast_error_after:.0%} after"
    )
