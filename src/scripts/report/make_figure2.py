"""Figure 2: the cost of one step of LPIPS, LatentLPIPS and E-LatentLPIPS, as a figure and as a table."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.io import read_json, read_table
from diffusion2gan.report import figures
from diffusion2gan.report.tables import write_csv
from diffusion2gan.study import cli


@dataclass
class Arguments:
    costs: Path
    hardware: Path
    out: Path
    table: Path


def main(args: Arguments):
    costs, measured = read_table(args.costs), read_json(args.hardware)
    names = costs["loss"] + ("-" + costs["part"]).where(costs["part"] != "total", "")
    write_csv(costs.assign(row=names, seed=0)[["row", "seed", "milliseconds", "mebibytes"]], args.table)

    total = costs[costs["part"] == "total"].set_index("loss")[["milliseconds", "mebibytes"]]
    ratio = total.loc["LPIPS"] / total.loc["E-LatentLPIPS"]
    precision = "bfloat16" if measured["autocast"] else "float32"
    hardware = (
        f"batch {measured['batch_size']}, {precision}, {measured['device']}; LPIPS ÷ E-LatentLPIPS: "
        f"time {ratio['milliseconds']:.1f}, memory {ratio['mebibytes']:.1f} (paper, A100: 9.7 and 25)"
    )
    figures.save(figures.costs(costs, hardware), args.out, f"Cost of one step of each perceptual loss: {hardware}")
    print(hardware)


if __name__ == "__main__":
    cli.run(main)
