"""The networks of a run as a table: their layers, parameters and size."""

from collections.abc import Mapping

from torch import Tensor, nn

Row = tuple[str, str, str, str]


def model_summary(networks: Mapping[str, nn.Module]) -> str:
    """Return a table with a section for each network, and a line for each layer that has parameters of its own.

    Args:
        networks: networks by name.

    Returns:
        Text: name, class, number of parameters and size of the parameters and buffers in memory; and a last line with
        the sums.
    """
    rows: list[Row] = [("", "class", "parameters", "MB")]
    for name, network in networks.items():
        rows.append((name, type(network).__name__, *_count([*network.parameters()], [*network.buffers()])))
        for path, layer in network.named_modules():
            own, buffers = [*layer.parameters(recurse=False)], [*layer.buffers(recurse=False)]
            if own and path:
                rows.append((f"  {path}", type(layer).__name__, *_count(own, buffers)))
    everything = nn.ModuleList(networks.values())
    rows.append(("all", "", *_count([*everything.parameters()], [*everything.buffers()])))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(_line(row, widths) for row in rows)


def _count(parameters: list[nn.Parameter], buffers: list[Tensor]) -> tuple[str, str]:
    size = sum(tensor.numel() * tensor.element_size() for tensor in [*parameters, *buffers])
    return f"{sum(parameter.numel() for parameter in parameters):,}", f"{size / 1e6:.3f}"


def _line(row: Row, widths: list[int]) -> str:
    name, kind, parameters, size = row
    return f"{name:{widths[0]}s}  {kind:{widths[1]}s}  {parameters:>{widths[2]}s}  {size:>{widths[3]}s}".rstrip()
