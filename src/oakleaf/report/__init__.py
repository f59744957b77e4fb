"""Reports: one HTML file that shows a run, or a sweep, and needs no network, no server and no other file.

| module | content |
|---|---|
| `provenance` | `run.json`: the commands of a run, its commit, versions and machine, its time and memory |
| `charts` | curves, as SVG in the page and as `curves.png` |
| `curves` | which logged scalars make which chart |
| `page` | the templates, and pictures as a part of the page |
| `run` | `report.html` of a run, made from the files in its folder; `oakleaf.callbacks.Report` writes it in training |

A report is a function of the files in a folder, so it can be written again at any time, as `evaluate.py` does after an
evaluation. Importing the package does not import torch.
"""
