"""Torch modules: splitting, heads, networks with exits; nothing of cost or search.

Reading order: `split` (a model's whole way) goes through `trace` (torch.fx), `facts` (what the values are), `cuts`
(where one can cut), `segments` (the parts), `proof` (that they do the same) to a `backbone`; `heads` hang on its cuts;
`exitnet` joins both; `stages` are what is deployed of it, and stop computing where a policy says.
"""
