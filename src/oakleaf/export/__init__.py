"""Export of trained generators, without the rest of the training.

| module | what it contains |
|---|---|
| `generator` | `ExportedGenerator`: the part of a game that generates images |
| `formats` | the file formats: safetensors, torch.export (`.pt2`), ONNX |
| `model_card` | `card.json`, which describes an exported generator |
| `readme` | `README.md`, which the Hugging Face hub shows, and `samples.png` |
| `write` | writing a file, and verifying it |
| `pretrained` | loading an exported generator, from a folder or from the Hugging Face hub |

Verification. An exporter may change what a network computes without reporting it: a dimension becomes fixed at the size
of the example, a random layer becomes constant, an operator is replaced. `write.write_and_verify` therefore reads every
file back with the format's own reader, in another instance of the generator for formats that store weights alone, and
compares images: both generators receive the same inputs, for two batch sizes different from the one that was traced. A
file whose images differ by more than 1e-5 at any pixel, in a range of [-1, 1], is deleted, and the command fails. The
largest difference is recorded in `card.json`.
"""
