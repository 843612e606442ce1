"""Tables 2 and 3's sizes: what our networks cost beside what was published.

python benchmarks/published.py [reports/costs.md]
"""

import sys
from pathlib import Path

from setn_lab.figures import page as markdown
from setn_lab.network import Cost, cost
from setn_lab.network.export import NETWORKS
from setn_lab.space.zoo import ZOO, Size

IMAGES = {"CIFAR-10": ("cifar", 32, 10), "ImageNet": ("imagenet", 224, 1000)}  # network, image size, classes
DEFAULT = (Size("CIFAR-10", 36, 6, None),)  # of a genotype for which no size was printed


def price(name: str, size: Size) -> Cost:
    """What the zoo's genotype of that name costs at that size."""
    kind, image_size, num_classes = IMAGES[size.data]
    network = NETWORKS[kind](ZOO[name].genotype, size.channels, size.repeats, num_classes)
    return cost(network, image_size)


def verdict(size: Size, ours: Cost) -> str:
    """How our figures stand to the published ones, at the precision in which those were printed."""
    if size.parameters is None:
        return "nothing was printed"
    parameters = size.exact == ours.parameters if size.exact else _rounds(ours, size)
    adds = size.multiply_adds is None or round(ours.multiply_adds / 1e6) == size.multiply_adds
    if parameters and adds:
        by = f", printed by {size.printed_by}" if size.printed_by else ""
        return "reproduced" + (" exactly" if size.exact else "") + by
    wrong = [text for text, right in (("parameters", parameters), ("multiply-adds", adds)) if not right]
    return f"**{' and '.join(wrong)} not reproduced**" + (f": {size.remark}" if size.remark else "")


def _rounds(ours: Cost, size: Size) -> bool:
    return round(ours.parameters / 1e6, size.digits) == size.parameters


def table() -> str:
    """Every genotype and size of the zoo as Markdown."""
    rows = []
    for name, published in ZOO.items():
        for size in published.sizes or DEFAULT:
            ours = price(name, size)
            printed = "" if size.parameters is None else f"{size.parameters:.{size.digits}f} M"
            printed = f"{size.exact:,}" if size.exact else printed
            adds = "" if size.multiply_adds is None else f"{size.multiply_adds} M"
            about = [name, size.data, f"{size.channels}", f"{size.repeats}", f"{ours.parameters:,}", printed]
            rows.append([*about, f"{ours.multiply_adds / 1e6:.1f} M", adds, verdict(size, ours)])
    head = ["network", "data", "C", "N", "parameters", "published", "multiply-adds", "published", ""]
    return markdown.table(head, rows)


def page() -> str:
    """The report."""
    return f"""# What the networks cost

Made by `python benchmarks/published.py`. Our networks of the published genotypes beside the sizes printed for them
(Tables 2 and 3, and the papers of the other methods). Parameters leave the auxiliary head out; multiply-adds are those
of convolutions and linear layers for one image, by torch's own counter. A figure is reproduced when it rounds to the
printed one.

{table()}
"""


def main() -> None:
    """Write the report into the file named on the command line, by default reports/costs.md of this checkout."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "reports" / "costs.md"
    target.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
