"""What a chosen point becomes outside of eesearch: files that other training and serving code reads.

Reading order: `chosen` (all that an exporter reads), `formats` (write, rename, read again, compare), `source` (Python
text from traced graphs), `torch_folder` (a standalone PyTorch folder, on which others build), `onnx_stages`.
"""
